from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.learning.file import MOST_MODELS, Boot, LearnedFile, LearnedFileError, Saved, decode, encode
from gateway.scheduling.estimates import ModelLearned
from gateway.scheduling.names import Variant

LLAMA = Variant("abc", (("num_ctx", 8192), ("use_mmap", True)))
KNOWN: dict[str, Any] = {
    "fast_rate": 0.5,
    "slow_rate": 0.25,
    "output_tokens": 212.0,
    "load_s": {"gpu0": 7.5},
    "service_s": {"NVIDIA L4": 4.0},
    "prefill_tokens_per_s": {"NVIDIA L4": 2500.0},
    "size_bytes": 2**31,
}


def learned(**changes: Any) -> ModelLearned:
    """Return what could have been measured, but for these changes."""
    return ModelLearned(**{**KNOWN, **changes})


def text(learned_: Mapping[Variant, ModelLearned]) -> str:
    """Return a file of these models."""
    return encode(Saved(1000.0, learned_, {LLAMA: "llama3.2:3b"}))


def changed(**changes: Any) -> str:
    """Return a file of one model in which this stands instead."""
    tree = json.loads(text({LLAMA: learned()}))
    tree["models"][0] |= changes
    return json.dumps(tree)


def test_what_is_written_is_read_again() -> None:
    """With the options that make it a variant, and the name for people."""
    saved = Saved(
        1000.0, {LLAMA: learned(), Variant("b"): learned(output_tokens=None)}, {LLAMA: "llama3.2:3b"}
    )
    again = decode(encode(saved))
    assert (again.saved_unix, again.learned) == (saved.saved_unix, saved.learned)
    assert again.names[LLAMA] == "llama3.2:3b"
    assert decode(encode(Saved(1.0, {}, {}))).learned == {}


@given(st.dictionaries(st.text(max_size=9), st.floats()), st.floats(), st.integers())
def test_whatever_was_measured_is_written_so_that_it_can_be_read(
    seconds: dict[str, float], rate: float, size: int
) -> None:
    """One number that is none must not cost all the others."""
    odd = learned(
        load_s=seconds, prefill_tokens_per_s=seconds, service_s=seconds, fast_rate=rate, size_bytes=size
    )
    again = decode(text({LLAMA: odd, Variant("b"): learned()}))
    assert again.learned[Variant("b")] == learned()
    assert all(speed > 0 for speed in again.learned[LLAMA].prefill_tokens_per_s.values())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "EOF"),
        (text({LLAMA: learned()})[:-20], "EOF"),
        ("[]", "Input should be an object"),
        (text({}).replace('"version": 1', '"version": 2'), "version 2"),
        (changed(fast_rate=nan), "models.0.fast_rate"),
        (changed(load_s={"gpu0": inf}), "models.0.load_s.gpu0"),
        (changed(service_s={"L4": -1.0}), "models.0.service_s.L4"),
        (changed(prefill_tokens_per_s={"L4": 0}), "models.0.prefill_tokens_per_s.L4"),
        (changed(size_bytes="large"), "models.0.size_bytes"),
        (changed(colour="blue"), "models.0.colour"),
        (text({LLAMA: learned()}).replace("1000.000", "-1"), "saved_unix"),
        (
            text({LLAMA: learned()}).replace("[", "[" + text({LLAMA: learned()}).splitlines()[1] + ","),
            "twice",
        ),
    ],
)
def test_a_text_that_nobody_can_have_learned_is_refused_whole(content: str, reason: str) -> None:
    """With what is wrong in it."""
    with pytest.raises(LearnedFileError, match=reason):
        decode(content)


def test_the_models_that_are_asked_for_least_are_left_out_first() -> None:
    """So that the file stays small."""
    many = {Variant(str(n)): learned(fast_rate=0.0, slow_rate=float(n)) for n in range(MOST_MODELS + 10)}
    kept = decode(text(many)).learned
    assert len(kept) == MOST_MODELS
    assert Variant("9") not in kept
    assert Variant("10") in kept


@pytest.mark.parametrize(("now", "passed"), [(1060.0, 60.0), (400.0, 0.0)])
def test_a_clock_that_was_put_back_makes_no_time_pass(now: float, passed: float) -> None:
    """Rates must not grow by it."""
    assert Saved(1000.0, {}, {}).passed_s(now) == passed


@pytest.fixture
def warnings() -> Iterator[list[Any]]:
    """Return what is logged."""
    structlog.reset_defaults()
    with capture_logs() as lines:
        yield lines


def test_a_file_is_its_owners_alone_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    """In a directory that need not be there."""
    file = LearnedFile(tmp_path / "a" / "b" / "learned.json")
    file.write(text({LLAMA: learned()}))
    file.write(text({}))
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == ["learned.json"]
    assert (saved := file.read()) is not None
    assert saved.learned == {}


def test_the_first_start_finds_nothing_and_complains_of_nothing(tmp_path: Path, warnings: list[Any]) -> None:
    """It is how every Corral begins."""
    assert LearnedFile(tmp_path / "learned.json").read() is None
    assert warnings == []


def test_a_broken_file_is_put_aside_with_a_warning_that_names_it(tmp_path: Path, warnings: list[Any]) -> None:
    """It can still be looked at, and the next start does not meet it again."""
    file = LearnedFile(tmp_path / "learned.json")
    file.path.write_bytes(b'{"version": 1, "saved_unix"')
    assert file.read() is None
    assert file.read() is None
    (warning,) = warnings
    assert warning["file"] == str(file.path)
    assert Path(warning["put_aside"]).read_bytes() == b'{"version": 1, "saved_unix"'


def test_a_disk_that_takes_nothing_is_one_warning(tmp_path: Path, warnings: list[Any]) -> None:
    """And word when it takes it again; the old file stays until then."""
    file = LearnedFile(tmp_path / "state" / "learned.json")
    (tmp_path / "state").write_text("a file where the directory should be")
    file.write(text({}))
    file.write(text({}))
    (tmp_path / "state").unlink()
    file.write(text({}))
    assert [(line["log_level"], line["file"]) for line in warnings] == [
        ("warning", str(file.path)),
        ("info", str(file.path)),
    ]


def test_a_full_disk_leaves_the_old_file_and_no_stump(
    tmp_path: Path, warnings: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads finds the whole old text."""
    file = LearnedFile(tmp_path / "learned.json")
    file.write(text({LLAMA: learned()}))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    file.write(text({}))
    assert [path.name for path in tmp_path.iterdir()] == ["learned.json"]
    assert (saved := file.read()) is not None
    assert saved.learned == {LLAMA: learned()}
    assert "No space left" in warnings[0]["error"]


def test_the_time_that_passed_is_the_machines_own_until_it_is_restarted() -> None:
    """A wall clock can be set, by a year or two; the other one goes from the machine's start on."""
    saved = Saved(1000.0, {}, {}, Boot("this start", 50.0))
    again = decode(encode(saved))
    assert again.boot == saved.boot
    assert again.passed_s(10**9, Boot("this start", 60.0)) == 10.0
    assert again.passed_s(1007.0, Boot("another start", 3.0)) == 7.0
    assert again.passed_s(1007.0) == 7.0
