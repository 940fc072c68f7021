"""What is written to a store: whole or not at all, by one at a time, and removed when nobody names it."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from supervisor.contract.names import ModelName
from supervisor.models.blob_files import PARTIAL_SUFFIX, WrongDigestError
from supervisor.models.creation import Base, Creation, Wish, plan_creation
from supervisor.models.facts import NOTHING_KNOWN
from supervisor.models.manifest import Layer, digest_of, parse_manifest
from supervisor.models.store_files import MissingBlobsError, StoreFiles

NAME = ModelName.parse("box/Team/Model:Q4")


@pytest.fixture
def files(tmp_path: Path) -> StoreFiles:
    """A store that does not exist yet."""
    return StoreFiles(tmp_path / "store")


def model(files: StoreFiles, weights: bytes = b"weights", system: str = "") -> Creation:
    """Return a model whose blobs are in the store."""
    digest, _ = files.blobs.put(weights)
    base = Base(layers=(Layer("model", digest, len(weights)),), facts=(NOTHING_KNOWN,))
    creation = plan_creation(base, Wish(system=system))
    for text in (creation.config, *(part for part in creation.parts if not isinstance(part, Layer))):
        files.blobs.put(text.data)
    return creation


def blobs(files: StoreFiles) -> set[str]:
    """Return the digests that are there."""
    return {path.name.replace("-", ":") for path in (files.path / "blobs").iterdir()}


def test_case_tells_no_names_apart(files: StoreFiles) -> None:
    """A name is written as it is written already, part by part."""
    files.write(NAME, model(files).manifest)
    assert files.canonical(ModelName.parse("BOX/team/MODEL:q4")) == NAME
    assert files.canonical(ModelName.parse("box/TEAM/other")) == ModelName.parse("box/Team/other")
    assert files.canonical(ModelName.parse("New")) == ModelName.parse("New")


def test_names_are_looked_up_while_others_come_and_go(files: StoreFiles) -> None:
    """The last name in a folder takes the folder with it, while somebody looks into it."""
    data = model(files).manifest
    files.write(ModelName.parse("stays"), data)
    over = threading.Event()

    def come_and_go() -> None:
        for number in range(100):
            files.write(ModelName.parse(f"guest{number}/m"), data)
            files.remove(ModelName.parse(f"guest{number}/m"))
        over.set()

    writer = threading.Thread(target=come_and_go)
    writer.start()
    try:
        while not over.is_set():
            assert files.canonical(ModelName.parse("STAYS")) == ModelName.parse("stays")
    finally:
        writer.join()


def test_a_folder_that_cannot_be_read_costs_no_blob(
    files: StoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold the manifest that needs it."""
    files.write(NAME, model(files).manifest)
    there = blobs(files)

    def unreadable(_: Path) -> list[Path]:
        raise PermissionError("not yours")

    monkeypatch.setattr(Path, "iterdir", unreadable)
    with pytest.raises(PermissionError):
        files.remove_unused(there)
    monkeypatch.undo()
    assert blobs(files) == there


def test_a_manifest_is_not_written_before_its_blobs(files: StoreFiles) -> None:
    """Else a reader finds a name that nothing stands behind."""
    creation = model(files)
    files.blobs.remove([creation.layers[0].digest])
    with pytest.raises(MissingBlobsError) as caught:
        files.write(NAME, creation.manifest)
    assert caught.value.digests == [creation.layers[0].digest]
    assert not files.has(NAME)


def test_what_a_model_no_longer_needs_is_removed(files: StoreFiles) -> None:
    """And what another one names stays."""
    first, second = model(files, system="one").manifest, model(files, system="two").manifest
    files.write(NAME, first)
    files.write(ModelName.parse("other"), second)
    assert len(files.remove_unused(files.remove(NAME))) == 2  # the system text and the configuration
    assert blobs(files) == set(parse_manifest(second).digests)
    assert not list((files.path / "manifests").glob("box*"))


def test_a_model_that_is_replaced_leaves_nothing(files: StoreFiles) -> None:
    """The blobs of the old one are returned, and go if nobody else names them."""
    files.write(NAME, model(files, b"old").manifest)
    new = model(files, b"new").manifest
    files.remove_unused(files.write(NAME, new))
    assert blobs(files) == set(parse_manifest(new).digests)


def test_a_copy_shares_all_blobs(files: StoreFiles) -> None:
    """It is a second manifest, byte for byte."""
    files.write(NAME, model(files).manifest)
    before = blobs(files)
    files.copy(NAME, ModelName.parse("copy"))
    assert files.remove_unused(files.remove(NAME)) == []
    assert blobs(files) == before
    with pytest.raises(FileNotFoundError):
        files.copy(NAME, ModelName.parse("again"))


def test_removing_what_is_not_there_makes_no_store(files: StoreFiles) -> None:
    """A question leaves no traces."""
    with pytest.raises(FileNotFoundError):
        files.remove(NAME)
    assert not files.path.exists()


def test_a_broken_manifest_can_be_removed(files: StoreFiles) -> None:
    """Its blobs are unknown, so nothing else goes."""
    files.write(NAME, model(files).manifest)
    path = files.path / "manifests/box/Team/Model/Q4"
    path.write_text("{")
    assert files.remove(NAME) == []


def test_a_reader_never_sees_half_a_manifest(files: StoreFiles) -> None:
    """However often it is replaced while somebody reads it."""
    data = [model(files, system=text * 2000).manifest for text in ("a", "b")]
    files.write(NAME, data[0])
    over = threading.Event()

    def write() -> None:
        for number in range(50):
            files.write(NAME, data[number % 2])
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    path = files.path / "manifests/box/Team/Model/Q4"
    seen = {path.read_bytes()}
    while not over.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(data)


def test_an_upload_is_there_whole_or_not_at_all(files: StoreFiles) -> None:
    """With the wrong digest it is nowhere."""
    with files.blobs.draft() as draft:
        draft.write(b"ab")
        draft.write(b"c")
        with pytest.raises(WrongDigestError):
            files.blobs.keep(draft, "sha256:" + "0" * 64)
    assert blobs(files) == set()
    with files.blobs.draft() as draft:
        draft.write(b"abc")
        digest = files.blobs.keep(draft, draft.digest)
    assert blobs(files) == {digest}
    assert files.blobs.path(digest).read_bytes() == b"abc"


def test_a_download_goes_on_where_it_ended(files: StoreFiles) -> None:
    """For the next one who opens it; while one has it open, nobody else does."""
    digest = f"sha256:{hashlib.sha256(b'0123456789').hexdigest()}"
    first = files.blobs.open_partial(digest, 10, 4)
    assert first is not None
    assert [(part.start, part.end) for part in first.plan.parts] == [(0, 4), (4, 8), (8, 10)]
    first.write(first.plan.parts[1], b"45")
    assert files.blobs.open_partial(digest, 10, 4) is None
    assert files.blobs.partial_done(digest, 10) == 2
    first.close()
    second = files.blobs.open_partial(digest, 10, 5)
    assert second is not None
    assert [part.done for part in second.plan.parts] == [0, 2, 0]
    for part, data in zip(second.plan.parts, (b"0123", b"67", b"89"), strict=True):
        second.write(part, data)
    files.blobs.finish(second, digest)
    second.close()
    assert files.blobs.path(digest).read_bytes() == b"0123456789"
    assert blobs(files) == {digest}


def test_a_download_with_wrong_bytes_is_gone(files: StoreFiles) -> None:
    """It would never become right."""
    digest = "sha256:" + "0" * 64
    partial = files.blobs.open_partial(digest, 3, 3)
    assert partial is not None
    partial.write(partial.plan.parts[0], b"abc")
    with pytest.raises(
        WrongDigestError, match=r"digest mismatch, file must be downloaded again: want sha256:00"
    ):
        files.blobs.finish(partial, digest)
    partial.close()
    assert blobs(files) == set()


def test_what_killed_processes_left_is_removed(files: StoreFiles) -> None:
    """Uploads after a minute, downloads after a week, and never what somebody works on."""
    files.blobs.free_bytes()
    folder = files.path / "blobs"
    left = {"a.corral-draft": 120, "b.corral-draft": 1, f"sha256-c{PARTIAL_SUFFIX}": 8 * 86400}
    left[f"sha256-d{PARTIAL_SUFFIX}"] = 86400
    for name, age_s in left.items():
        (folder / name).touch()
        now = (folder / name).stat().st_mtime
        os.utime(folder / name, (now - age_s, now - age_s))
    with files.blobs.draft() as draft:
        os.utime(draft.path, (0, 0))
        assert files.blobs.free_bytes() > 0
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            ["b.corral-draft", f"sha256-d{PARTIAL_SUFFIX}", draft.path.name]
        )


def test_a_digest_is_a_sha256_and_nothing_else() -> None:
    """It becomes part of a path."""
    assert digest_of("sha256-" + "AB" * 32) == "sha256:" + "ab" * 32
    assert [digest_of(text) for text in ("", "sha256:12", "sha256:../../x", "md5:" + "a" * 64)] == [None] * 4
