"""`corral create NAME`: make a model of a GGUF file, of a Modelfile, or of another model."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import ollama

from gateway.commands.endpoint import add_endpoint_arguments, url_of, with_client
from gateway.commands.progress import follow
from gateway.commands.progress_bar import ProgressBar
from gateway.commands.settings import SettingsError
from gateway.commands.sizes import size_in_words
from gateway.store.modelfile import Modelfile, ModelfileError, parse_modelfile
from supervisor.contract.command import EXIT_OK

HELP = "make a model of a GGUF file, a Modelfile or another model"

_DESCRIPTION = """\
Makes a model in every store that a worker may serve it from. Files are sent only where they are missing.
"""
_PIECE_BYTES: Final = 2**20
_FILES: Final = ("*.gguf", "*.safetensors", "*.json", "tokenizer.model")
"""What is taken of a directory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = _DESCRIPTION
    parser.add_argument("name", metavar="NAME", help="what the model is to be called")
    made_of = parser.add_mutually_exclusive_group(required=True)
    made_of.add_argument("-f", "--file", metavar="MODELFILE", help="what it is made of, as Ollama writes it")
    made_of.add_argument(
        "--from", dest="source", metavar="SOURCE", help="a GGUF file, a directory, or another model"
    )
    parser.add_argument(
        "-q", "--quantize", metavar="TYPE", help="such as q4_K_M; of F16, BF16 or F32 weights"
    )
    parser.add_argument("--json", action="store_true", help="print the progress as JSON, an object a line")
    add_endpoint_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Read, send what is missing, and create."""
    return with_client(args, f"create {args.name}", lambda client: _create(client, args))


def _create(client: ollama.Client, args: argparse.Namespace) -> int:
    wanted, directory = _wanted(args)
    with httpx.Client(base_url=url_of(args), trust_env=False, timeout=None) as http:  # noqa: S113 -- uploads last
        fields = _fields(http, wanted, directory)
    if args.quantize:
        fields["quantize"] = args.quantize
    follow(client.create(args.name, stream=True, **fields), as_json=args.json)
    if not args.json:
        print(f"created {args.name}")
    return EXIT_OK


def _wanted(args: argparse.Namespace) -> tuple[Modelfile, Path]:
    """Return what is to be made, and where relative paths start."""
    if args.source is not None:
        return Modelfile(sources=[args.source]), Path()
    file = Path(args.file)
    try:
        return parse_modelfile(file.read_text(encoding="utf-8")), file.parent
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, ModelfileError) as error:
        raise SettingsError(f"{file}: {error}") from error


def _fields(http: httpx.Client, wanted: Modelfile, directory: Path) -> dict[str, Any]:
    """Return the request's fields; files that it names are there afterwards."""
    fields = dict(wanted.fields)
    for source in wanted.sources:
        files = _files(source, directory)
        if files:
            fields["files"] = {**fields.get("files", {}), **_sent(http, files)}
        elif _looks_like_a_file(source):
            raise SettingsError(f"{source}: no such file, or nothing of a model in it")
        else:
            fields["from_"] = source
    for adapter in wanted.adapters:
        files = _files(adapter, directory)
        if not files:
            raise SettingsError(f"{adapter}: no such adapter")
        fields["adapters"] = {**fields.get("adapters", {}), **_sent(http, files)}
    return fields


def _files(source: str, directory: Path) -> list[Path]:
    path = directory / Path(source).expanduser()
    if path.is_file():
        return [path]
    return sorted({file for pattern in _FILES for file in path.glob(pattern)}) if path.is_dir() else []


def _looks_like_a_file(source: str) -> bool:
    return source.startswith(("/", "./", "../", "~")) or source.endswith((".gguf", ".safetensors"))


def _sent(http: httpx.Client, files: Sequence[Path]) -> dict[str, str]:
    """Send the files that are missing and return the digests of all, by name."""
    return {file.name: _send(http, file) for file in files}


def _send(http: httpx.Client, file: Path) -> str:
    bar, digest = ProgressBar(), hashlib.sha256()
    try:
        for piece in _pieces(file, bar, "reading"):
            digest.update(piece)
        name = f"sha256:{digest.hexdigest()}"
        if http.head(f"/api/blobs/{name}").is_success:
            return name
        headers = {"Content-Length": str(file.stat().st_size)}
        answer = http.post(f"/api/blobs/{name}", content=_pieces(file, bar, "sending"), headers=headers)
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror or error}") from error
    finally:
        bar.end()
    if answer.is_error:
        raise ollama.ResponseError(answer.text, answer.status_code)
    return name


def _pieces(file: Path, bar: ProgressBar, doing: str) -> Iterator[bytes]:
    """Yield the file's content and show how far it is."""
    size, done = file.stat().st_size, 0
    with file.open("rb") as content:
        while piece := content.read(_PIECE_BYTES):
            yield piece
            done += len(piece)
            bar.draw(done, size, f"{100 * done // size:3d} % of {size_in_words(size)}  {doing} {file.name}")
