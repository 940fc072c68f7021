"""GGUF headers, directories of them, and digests."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.engines.embedded.showing import Question, shown
from supervisor.models.digests import Digests, cache_directory
from supervisor.models.directory import Directory
from supervisor.models.facts import facts_of, human_number
from supervisor.models.gguf import Header, InvalidGgufError, parse_header
from supervisor.models.model import FileId
from tests.support.models import counting_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A counting model."""
    return counting_model(tmp_path_factory.mktemp("models"))


def quiet(event: str, *, file: str, reason: str) -> None:
    """Take a report and say nothing."""
    del event, file, reason


def test_a_header_tells_what_the_model_is(model: Path) -> None:
    """Architecture, context, vocabulary and template; long arrays are passed over."""
    header = parse_header(model.read_bytes())
    facts = facts_of(header)
    assert facts.family == "llama"
    assert facts.context_length == 4096
    assert facts.vocabulary_size == header.array_lengths["tokenizer.ggml.tokens"]
    assert header.values["tokenizer.ggml.tokens"] is None
    assert facts.capabilities == ("completion",)


@given(st.data())
def test_a_header_that_is_cut_short_says_so(model: Path, data: st.DataObject) -> None:
    """Wherever it ends, and never with another error."""
    whole = model.read_bytes()[:60_000]
    end = data.draw(st.integers(min_value=0, max_value=len(whole)))
    with pytest.raises(InvalidGgufError):
        parse_header(whole[:end])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_header_are_refused(data: bytes) -> None:
    """Lengths found in a file are never trusted."""
    with pytest.raises(InvalidGgufError):
        parse_header(b"GGUF\x03\x00\x00\x00" + b"\xff" * 8 + data)


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999"), (13_400, "13K"), (4_200_000, "4.20M"), (2_000_000, "2M"), (7_240_000_000, "7.2B")],
)
def test_sizes_read_as_ollama_writes_them(count: int, text: str) -> None:
    """`parameter_size` of the details."""
    assert human_number(count) == text


def test_a_listing_reads_a_header_once_and_notices_changes(model: Path, tmp_path: Path) -> None:
    """A broken file stays listed, a file whose name is no model's does not."""
    reports: list[str] = []
    directory = Directory(
        tmp_path, lambda event, *, file, reason: reports.append(f"{event} {file} {reason[:3]}")
    )
    (tmp_path / "Good.gguf").write_bytes(model.read_bytes())
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    (tmp_path / "a b.gguf").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    assert {m.name.short for m in directory.scan().values()} == {"Good:latest", "broken:latest"}
    directory.scan()
    assert sorted(reports) == ["model_file_broken broken.gguf the", "model_file_skipped a b.gguf inv"]
    (tmp_path / "broken.gguf").write_bytes(model.read_bytes())
    assert all(m.facts.family == "llama" for m in directory.scan().values())


def test_a_listed_model_is_shown_without_reading_its_file_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vocabulary takes long to walk over, and the gateway has each model shown before its first load."""
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(model.read_bytes())
    parsed: list[int] = []

    def noting(data: bytes, *, kept_array_length: float) -> Header:
        parsed.append(len(data))
        return parse_header(data, kept_array_length=kept_array_length)

    monkeypatch.setattr("supervisor.models.directory.parse_header", noting)
    listed = next(iter(Directory(tmp_path, quiet).scan().values()))
    once = len(parsed)
    told = shown(listed, Question())
    assert (told["model_info"]["general.architecture"], len(parsed)) == ("llama", once)
    assert shown(listed, Question(verbose=True))["model_info"]["tokenizer.ggml.tokens"]
    assert len(parsed) > once


def test_a_directory_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """It may be made later."""
    assert Directory(tmp_path / "none", quiet).scan() == {}


def test_a_digest_is_kept_for_the_next_start(model: Path, tmp_path: Path) -> None:
    """The second worker does not read the file again: it is gone by then."""
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(model.read_bytes())
    file = FileId(str(copy), copy.stat().st_size, copy.stat().st_mtime_ns)

    def known() -> str:
        digests = Digests(tmp_path / "cache")
        digests.begin([file])
        asyncio.run(digests.wait([file], timeout_s=10))
        digests.close()
        return digests.known(file)

    assert known() == hashlib.sha256(copy.read_bytes()).hexdigest()
    copy.unlink()
    assert known() == hashlib.sha256(model.read_bytes()).hexdigest()


def test_a_file_that_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    """It is listed without one."""
    file = FileId(str(tmp_path / "none.gguf"), 1, 1)
    digests = Digests(None)
    digests.begin([file])
    asyncio.run(digests.wait([file], timeout_s=10))
    assert digests.known(file) == ""
    digests.close()


def test_the_cache_follows_the_users_directories() -> None:
    """XDG first, then the home, and none without either."""
    assert cache_directory({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/corral/digests")
    assert cache_directory({"HOME": "/h"}) == Path("/h/.cache/corral/digests")
    assert cache_directory({}) is None
