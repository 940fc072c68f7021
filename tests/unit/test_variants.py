from __future__ import annotations

from typing import Any

import pytest

from gateway.fleet.roster import Held, ModelDetails, ModelRow, Roster, instance_of
from gateway.fleet.variants import DEFAULTS, OptionError, PassedVariants, checked, with_options
from gateway.fleet.views import residents_of, worker_views
from gateway.scheduling.names import Variant
from gateway.scheduling.types import Resident
from gateway.workers.client import modelfile_options
from supervisor.contract.config import ModelConfig
from supervisor.contract.fleet import FleetSnapshot
from tests.support.fake_ollama import FakeOllama

BASE = Variant("weights")


def wide(num_ctx: int) -> Variant:
    """The weights with a context of its own."""
    return Variant("weights", (("num_ctx", num_ctx),))


@pytest.mark.parametrize(
    ("asked", "read"),
    [
        ({"num_ctx": 8192, "seed": 1}, {"num_ctx": 8192}),
        ({"num_ctx": 8192.0, "use_mmap": False}, {"num_ctx": 8192, "use_mmap": False}),
        ({"num_gpu": -7, "num_thread": None}, {"num_gpu": -1}),
        ({"draft_num_predict": 3, "shift": True}, {}),
    ],
)
def test_options_are_read_as_ollama_does(asked: dict[str, Any], read: dict[str, Any]) -> None:
    """Whole numbers may be written as 1.0, null is not given, what stays the operator's is left."""
    assert checked(asked) == read


@pytest.mark.parametrize(
    "asked",
    [
        {"num_ctx": 7},
        {"num_ctx": "8192"},
        {"num_ctx": True},
        {"num_ctx": 8.5},
        {"num_ctx": 2**40},
        {"use_mmap": 1},
    ],
)
def test_options_that_mean_nothing_are_refused(asked: dict[str, Any]) -> None:
    """The text names the option."""
    with pytest.raises(OptionError, match=next(iter(asked))):
        checked(asked)


def test_options_that_all_workers_have_anyway_make_no_variant() -> None:
    """Those that only some have do."""
    own = {**DEFAULTS, "num_ctx": 4096}
    assert with_options(BASE, {"num_ctx": 4096, "num_batch": 512}, [own]) == BASE
    assert with_options(BASE, {"num_ctx": 4096}, [own, {**own, "num_ctx": 64}]) == wide(4096)
    assert with_options(wide(32), {"num_ctx": 64}, [{**own, "num_ctx": 32}]) == wide(64)


def test_variants_are_bounded_and_the_least_recently_used_goes_first() -> None:
    """But none that is held by a worker or used by a request; then no further one is let in."""
    passed = PassedVariants(most=2)
    assert passed.admit(wide(1), lambda _: False)
    assert passed.admit(wide(2), lambda _: False)
    assert passed.admit(wide(1), lambda _: False)
    assert passed.admit(wide(3), lambda _: False)
    assert set(passed) == {wide(1), wide(3)}
    with passed.used(wide(1)):
        assert not passed.admit(wide(4), lambda variant: variant == wide(3))
        assert passed.admit(wide(4), lambda _: False)
    assert set(passed) == {wide(1), wide(4)}


def test_a_thousand_variants_leave_no_more_than_the_bound() -> None:
    """A client cannot grow memory for ever."""
    passed = PassedVariants()
    assert all(passed.admit(wide(number), lambda _: False) for number in range(1000))
    assert len(passed) == 64


def test_a_modelfiles_runner_options_are_found_among_its_parameters() -> None:
    """As /api/show prints them."""
    told = 'num_ctx                        8192\nstop                           "<end>"\nuse_mmap    true'
    assert modelfile_options(told) == {"num_ctx": 8192, "use_mmap": True}


def roster(*workers: FakeOllama, wishes: dict[str, ModelConfig] | None = None, **changes: Any) -> Roster:
    """A roster that has seen these workers and the list of each."""
    known = Roster(wishes or {})
    statuses = tuple(worker.status(base_url="http://w", **changes) for worker in workers)
    known.snapshot = FleetSnapshot(boot_id="b", generation=1, workers=statuses)
    for worker in workers:
        known.learn(worker.name, {"models": [worker.row(model) for model in worker.models]})
    return known


def count_of(known: Roster) -> ModelRow:
    """The row of `count` on the first worker."""
    return next(iter(known.catalogues.values()))["registry.ollama.ai/library/count:latest"]


def learn(known: Roster, trained: int, **options: int) -> None:
    """Let the roster know the model's header and Modelfile."""
    info = {"general.architecture": "fake", "fake.context_length": trained}
    known.learn_details(count_of(known), ModelDetails(info, embedding=False, options=options))


def test_context_is_the_variants_the_modelfiles_or_the_workers_but_never_beyond_the_trained() -> None:
    """In this order."""
    known = roster(FakeOllama("w0"))
    status, base = known.statuses[0], count_of(known).variant
    assert known.context_on(status, base) == 64
    learn(known, 100, num_ctx=80)
    assert known.context_on(status, base) == 80
    assert known.context_on(status, Variant(base.digest, (("num_ctx", 32),))) == 32
    learn(known, 48, num_ctx=80)
    assert known.context_on(status, base) == 48


def test_a_variant_is_served_where_its_weights_are_and_sized_by_its_context() -> None:
    """By the engines that honour its options only."""
    ollama, embedded = FakeOllama("w0"), FakeOllama("w1")
    known = roster(ollama, embedded)
    statuses = (known.statuses[0], known.statuses[1].model_copy(update={"engine": "embedded"}))
    known.snapshot = FleetSnapshot(boot_id="b", generation=2, workers=statuses)
    digest = count_of(known).variant.digest
    context, threads = Variant(digest, (("num_ctx", 128),)), Variant(digest, (("num_thread", 2),))
    for variant in (context, threads):
        known.passed.admit(variant, known.is_held)
    servable = [set(view.servable) for view in worker_views(known)]
    assert [context in variants for variants in servable] == [True, True]
    assert [threads in variants for variants in servable] == [True, False]
    assert known.refusing(threads) == []
    assert roster(embedded, engine="embedded").refusing(threads) == ["num_thread"]


def test_what_a_worker_holds_is_told_apart_by_its_context() -> None:
    """A restarted gateway knows no other option; what was loaded there goes before what fits as well."""
    known = roster(FakeOllama("w0"), wishes={"count": ModelConfig(context_length=32)})
    status, digest = known.statuses[0], count_of(known).variant.digest
    passed = Variant(digest, (("num_ctx", 128), ("num_thread", 2)))
    known.passed.admit(Variant(digest, (("num_ctx", 128),)), known.is_held)
    known.passed.admit(passed, known.is_held)

    def seen(context: int) -> list[Variant]:
        resident = Resident(slots=1, size_bytes=1, size_vram_bytes=0, context_length=context)
        return list(residents_of(known, status, {digest: resident}))

    assert seen(32) == [count_of(known).variant]
    assert seen(128) == [Variant(digest, (("num_ctx", 128),))]
    assert seen(96) == [Variant(digest, (("num_ctx", 96),))]
    known.held[instance_of(status)] = {digest: Held(passed, 128)}
    assert seen(128) == [passed]
