from __future__ import annotations

import json

import pytest

from gateway.surfaces.audio import AudioSurface
from gateway.surfaces.identity import Caller
from gateway.surfaces.multipart import Field, FormError, fields_of
from gateway.surfaces.surface import BadRequestError, ParsedRequest, readdressed

SURFACE, ROUTE = AudioSurface(), "/v1/audio/transcriptions"
TYPE = "multipart/form-data; boundary=b0"
FILE = b'name="file"; filename="a.wav"\r\nContent-Type: audio/wav'
SOUND = b"RIFF\r\n--b\r\n\r\nname=model" * 1000


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"b0") -> bytes:
    """Return a form of parts, each of what follows `form-data; ` and its content."""
    heads = (b"--" + boundary + b"\r\nContent-Disposition: form-data; " + head for head, _ in parts)
    whole = (head + b"\r\n\r\n" + text for head, (_, text) in zip(heads, parts, strict=True))
    return b"\r\n".join([*whole, b"--" + boundary + b"--\r\n"])


def parse(body: bytes, content_type: str = TYPE) -> ParsedRequest:
    """Parse a request of that type."""
    return SURFACE.parse(ROUTE, body, Caller({"content-type": content_type}))


@pytest.mark.parametrize("model", [b'name="model"', b"name=model", b'NAME="model"'])
@pytest.mark.parametrize("first", [True, False])
def test_model_is_found_wherever_it_stands(model: bytes, first: bool) -> None:  # noqa: FBT001 -- parameters of the table
    """Before or behind the file, whose bytes may look like anything; the body is not copied."""
    parts = [(model, b"whisper"), (FILE, SOUND)]
    body = form(*(parts if first else reversed(parts)))
    parsed = parse(body)
    assert parsed.facts.model == "whisper"
    assert parsed.body is body
    assert parsed.content_type == TYPE


def test_another_name_takes_the_models_place() -> None:
    """Every other byte stays."""
    parts = [(FILE, SOUND), (b'name="model"', b"whisper"), (b'name="language"', b"en")]
    parsed = parse(form(*parts))
    assert parsed.model_at is not None
    parts[1] = (parts[1][0], b"large:latest")
    assert readdressed(parsed.body, parsed.model_at, "large:latest") == form(*parts)


@pytest.mark.parametrize("boundary", ["b0", '"b0"', "b0; charset=utf-8"])
def test_boundary_may_be_quoted(boundary: str) -> None:
    """As clients write it."""
    assert parse(form((b'name="model"', b"m"), (FILE, b"x")), f"multipart/form-data; boundary={boundary}")


def test_preamble_and_unnamed_parts_are_passed_over() -> None:
    """They are legal and mean nothing; of two fields with one name the first counts."""
    body = b"hello\r\n" + form((b"x=y", b"?"), (b'name="a"', b"1"), (b'name="a"', b""))
    start = body.index(b"\r\n\r\n1") + 4
    assert fields_of(TYPE, body) == {"a": Field("a", start, start + 1, is_file=False)}


def test_size_is_told_by_the_files_length() -> None:
    """A second of plain sound is 32 kB and about 25 tokens."""
    body = form((b'name="model"', b"m"), (FILE, b"\0" * 320_000), (b'name="prompt"', b"x" * 40))
    assert parse(body).facts.prompt_tokens == 250 + 10


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", b"{}"),
        ("application/json", b'{"model":"m"}'),
        ("multipart/form-data", form((b'name="model"', b"m"))),
        (TYPE, b""),
        (TYPE, b"--other\r\n\r\n"),
        (TYPE, form((b'name="model"', b"m")).removesuffix(b"--b0--\r\n")),
        (TYPE, b"--b0\r\n" + b"x" * 40_000 + b"\r\n\r\n\r\n--b0--"),
        ("multipart/form-data; boundary=b0\r\nX: y", b"--b0"),
    ],
)
def test_what_is_no_form_is_refused(content_type: str, body: bytes) -> None:
    """With a sentence, not a stack trace."""
    with pytest.raises(FormError):
        fields_of(content_type, body)
    with pytest.raises(BadRequestError, match="failed to parse multipart form"):
        parse(body, content_type)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([(FILE, b"x")], "model is required"),
        ([(b'name="model"', b""), (FILE, b"x")], "model is required"),
        ([(b'name="model"', b"m")], "file is required"),
        ([(b'name="model"', b"m"), (b'name="file"', b"x")], "file is required"),
        ([(b'name="model"', b"m" * 5000), (FILE, b"x")], "longer than"),
    ],
)
def test_what_is_missing_is_told(parts: list[tuple[bytes, bytes]], words: str) -> None:
    """The same sentences as the original's."""
    with pytest.raises(BadRequestError, match=words):
        parse(form(*parts))


def test_errors_are_openais() -> None:
    """The clients are the same."""
    assert json.loads(SURFACE.error(400, "why"))["error"]["type"] == "invalid_request_error"
