from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.contract.names import ModelName
from supervisor.models import progress
from supervisor.models.manifest import InvalidManifestError, Layer, parse_manifest
from supervisor.models.registry import (
    PassingRegistryError,
    RegistryError,
    Repository,
    check_range,
    refusal,
    token_of,
)
from supervisor.models.registry_plan import new_plan, part_size, resumed_plan

HUB = Repository.of(ModelName.parse("llama3.2:1b"), insecure=False)
OWN = Repository.of(ModelName.parse("box:5000/team/model"), insecure=True)
DIGEST = "sha256:" + "6a" * 32


def test_a_name_says_where_a_model_is_pulled_from() -> None:
    """The default registry over https; a host of its own, in clear text only when that was said."""
    assert HUB.manifest_url == "https://registry.ollama.ai/v2/library/llama3.2/manifests/1b"
    assert OWN.manifest_url == "http://box:5000/v2/team/model/manifests/latest"
    assert OWN.blob_url(DIGEST) == f"http://box:5000/v2/team/model/blobs/{DIGEST}"


@pytest.mark.parametrize(
    ("base", "location", "target"),
    [
        (HUB, "https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
        (HUB, "/v2/elsewhere", "https://registry.ollama.ai/v2/elsewhere"),
        (OWN, "http://storage/x", "http://storage/x"),
        (OWN, "https://storage/x", "https://storage/x"),
    ],
)
def test_a_redirect_is_followed(base: Repository, location: str, target: str) -> None:
    """To any host, because registries keep blobs elsewhere."""
    assert base.redirected(base.manifest_url, location) == target


@pytest.mark.parametrize("location", ["http://cdn.example/x", "file:///etc/passwd", "ftp://x/y"])
def test_a_redirect_never_leaves_https(location: str) -> None:
    """What began encrypted stays so."""
    with pytest.raises(RegistryError, match="not safe"):
        HUB.redirected(HUB.manifest_url, location)


def test_a_token_is_asked_for_as_the_challenge_says() -> None:
    """Service and every scope go along; more parameters of the realm stay."""
    challenge = (
        'Bearer realm="https://registry.ollama.ai/token?a=1",service="hub",scope="repo:x:pull repo:y:pull"'
    )
    assert HUB.token_url(challenge) == (
        "https://registry.ollama.ai/token?a=1&service=hub&scope=repo%3Ax%3Apull&scope=repo%3Ay%3Apull"
    )


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        ('Bearer realm="https://evil.example/token"', 'realm host "evil.example" does not match'),
        ('Bearer realm="http://registry.ollama.ai/token"', "does not match"),
        ('Basic realm="x"', "access denied"),
        ("", "access denied"),
    ],
)
def test_a_token_is_asked_for_at_the_registry_alone(challenge: str, why: str) -> None:
    """A realm elsewhere, or in clear text, is refused as Ollama refuses it."""
    with pytest.raises(RegistryError, match=why):
        HUB.token_url(challenge)


def test_a_token_goes_to_the_registry_alone() -> None:
    """Not to the storage that it redirects to, not to another port."""
    assert HUB.may_see_token("https://REGISTRY.ollama.ai/v2/x")
    assert not HUB.may_see_token("https://registry.ollama.ai:8443/v2/x")
    assert not HUB.may_see_token("http://registry.ollama.ai/v2/x")
    assert token_of({"access_token": "t"}) == "t"
    with pytest.raises(RegistryError, match="gave no token"):
        token_of(["t"])


def test_what_may_pass_is_told_from_what_will_not() -> None:
    """A busy registry is asked again; one that has no such model is not."""
    assert isinstance(refusal(503, "busy"), PassingRegistryError)
    assert isinstance(refusal(429, "slowly"), PassingRegistryError)
    assert not isinstance(refusal(404, "{}"), PassingRegistryError)
    assert str(refusal(404, "{}")) == "file does not exist"
    assert str(refusal(412, "needs a newer version")) == "412: needs a newer version"


def test_other_bytes_than_those_asked_for_are_refused() -> None:
    """Another start, another size, or nothing that says so."""
    check_range("bytes 10-19/20", 10, 20)
    for told in ("bytes 0-19/20", "bytes 10-19/21", "bytes 10-19/*", ""):
        with pytest.raises(RegistryError):
            check_range(told, 10, 20)


@given(size=st.integers(0, 1000), part=st.integers(100, 400), data=st.data())
def test_a_journal_tells_how_far_each_part_has_come(size: int, part: int, data: st.DataObject) -> None:
    """Whatever was fetched, and also when it was written count by count."""
    plan = new_plan(size, part)
    file = bytearray(size) + plan.journal()
    for one in plan.parts:
        one.done = data.draw(st.integers(0, one.end - one.start))
        at, count = plan.entry(one)
        file[at : at + len(count)] = count
    found = resumed_plan(size, bytes(file[size:]))
    assert found == plan
    assert len(file) == plan.file_bytes


@given(size=st.integers(1, 1000), part=st.integers(1, 400))
def test_parts_cover_a_blob_and_nothing_twice(size: int, part: int) -> None:
    """Each byte is fetched by exactly one connection."""
    parts = new_plan(size, part).parts
    assert [one.start for one in parts] == [0, *(one.end for one in parts[:-1])]
    assert parts[-1].end == size


@given(tail=st.binary(max_size=80), size=st.integers(0, 1000))
def test_what_is_no_journal_begins_anew(tail: bytes, size: int) -> None:
    """Another size, a cut file or somebody else's bytes: nothing is believed, nothing breaks."""
    assert resumed_plan(size, tail) is None
    assert resumed_plan(size, new_plan(size + 1, 100).journal()) is None
    assert resumed_plan(size, new_plan(size, 100).journal()[:-1]) is None


def test_a_count_beyond_its_part_is_not_believed() -> None:
    """Else a hole would be taken for bytes."""
    plan = new_plan(100, 100)
    plan.parts[0].done = 101
    assert resumed_plan(100, plan.journal()) is None


def test_parts_are_as_large_as_ollamas() -> None:
    """A sixteenth, within bounds."""
    assert [part_size(size) for size in (10**6, 8 * 10**9, 10**11)] == [10**8, 5 * 10**8, 10**9]


def test_progress_lines_are_ollamas() -> None:
    """Twelve digits in the status; numbers that are zero are left out."""
    layer = Layer("model", DIGEST, 10)
    line = {"status": "pulling 6a6a6a6a6a6a", "digest": DIGEST, "total": 10}
    assert progress.pulling(layer, 0) == line
    assert progress.pulling(layer, 4) == {**line, "completed": 4}


def test_a_layer_of_negative_size_makes_no_manifest() -> None:
    """It would be room on the disk that is not there."""
    with pytest.raises(InvalidManifestError):
        parse_manifest(b'{"layers": [{"digest": "%s", "size": -1}]}' % DIGEST.encode())
