from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from supervisor.contract.contradictions import Server
from supervisor.core.fitting import KnownModel, Place, fit_models
from tests.support.machines import a_config

GIB = 2**30
LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
}
EIGHT = KnownModel(size_bytes=8 * GIB, info=LLAMA, embeds=False)
"""128 KiB a token: 2 GiB with 4 slots of 4096 tokens."""


def a_place(
    name: str,
    gib: float,
    *,
    slots: int = 4,
    models: tuple[str, ...] | None = None,
    files: Mapping[str, KnownModel] | None = None,
) -> Place:
    """Return a worker that finds the model `a`, unless said otherwise."""
    return Place(
        server=Server(name=name, models=models, max_loaded_models=3),
        memory_bytes=int(gib * GIB),
        num_parallel=slots,
        context_length=4096,
        kv_cache_type=None,
        files={"registry.ollama.ai/library/a:latest": EIGHT} if files is None else files,
    )


def found(tree: Mapping[str, object], *places: Place) -> tuple[list[str], list[str]]:
    """Return mistakes and notes for the model `a`."""
    fit = fit_models(a_config({"models": {"a": tree}}), places)
    return [str(mistake) for mistake in fit.mistakes], [str(note) for note in fit.notes]


ADVICE = "shorten context_length, lower num_parallel, or give a worker more GPUs or memory"


def test_a_pinned_model_needs_one_worker_that_it_fits_on() -> None:
    """Weights, and a context for each slot."""
    assert found({"pin": True}, a_place("small", 4), a_place("large", 11)) == ([], [])
    assert found({"pin": True}, a_place("small", 4), a_place("middle", 10)) == (
        [
            (
                "models.a.pin: it needs 10.2 GiB (weights 8.0 GiB, context and buffers 2.2 GiB), "
                f"but middle has 10.0 GiB: {ADVICE}"
            )
        ],
        [],
    )


def test_fewer_slots_or_a_shorter_context_make_it_fit() -> None:
    """What the message advises must help."""
    assert found({"pin": True}, a_place("w", 10, slots=2)) == ([], [])
    assert found({"pin": True, "context_length": 1024}, a_place("w", 10)) == ([], [])
    assert found({"pin": True, "context_length": 8192}, a_place("w", 11))[0]
    assert found({"pin": True}, replace(a_place("w", 9.5), kv_cache_type="q8_0")) == ([], [])


def test_every_replica_needs_a_worker_of_its_own() -> None:
    """And the ones on which it fits are named."""
    mistakes, _ = found({"min_replicas": 2}, a_place("x", 20), a_place("y", 5), a_place("z", 6))
    assert mistakes == [
        (
            "models.a.min_replicas: it needs 10.2 GiB (weights 8.0 GiB, context and buffers 2.2 GiB), "
            f"but z has 6.0 GiB, so it fits on 1 of 2 workers only (x): {ADVICE}"
        )
    ]


def test_pinned_models_must_fit_together() -> None:
    """Each on its own would."""
    files = {f"registry.ollama.ai/library/{name}:latest": EIGHT for name in "ab"}
    config = a_config({"models": {"a": {"pin": True}, "b": {"pin": True}}})
    assert fit_models(config, [a_place("x", 21, files=files)]).mistakes == ()
    (mistake,) = fit_models(config, [a_place("x", 20, files=files)]).mistakes
    assert str(mistake) == (
        "models: those that are to stay loaded (pin, min_replicas) need 20.3 GiB together, "
        "but all workers have 20.0 GiB: pin fewer"
    )


def test_a_worker_that_is_dedicated_to_others_is_no_place_for_it() -> None:
    """Room there does not help."""
    assert found({"pin": True}, a_place("x", 20, models=("b",)), a_place("y", 5))[0]


def test_an_embedding_model_has_one_slot() -> None:
    """Whatever num_parallel says."""
    embeds = {"registry.ollama.ai/library/a:latest": KnownModel(size_bytes=8 * GIB, info=LLAMA, embeds=True)}
    assert found({"pin": True}, a_place("w", 9, files=embeds)) == ([], [])


def test_a_model_that_need_not_stay_is_let_through() -> None:
    """The gateway says no when it is asked for."""
    assert found({"max_replicas": 1}, a_place("w", 1)) == ([], [])


def test_a_file_that_is_nowhere_is_noted_unless_a_worker_may_have_it() -> None:
    """Nobody looks into external workers."""
    external = Place(
        server=Server(name="e", models=None, max_loaded_models=1),
        memory_bytes=GIB,
        num_parallel=1,
        context_length=4096,
        kv_cache_type=None,
        files=None,
    )
    note = "models.a: its file is not found: it cannot be loaded at start before it is pulled"
    assert found({"pin": True}, a_place("w", 1, files={})) == ([], [note])
    assert found({"pin": True}, a_place("w", 1, files={}), external) == ([], [])
