from __future__ import annotations

import pytest

from supervisor.contract.config import Config
from supervisor.contract.contradictions import Server, models_without_workers
from supervisor.contract.yaml_config import ConfigError, parse_config
from tests.support.machines import a_config


def mistakes_of(text: str) -> list[str]:
    """Return the mistakes of a text without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file="f.yaml")
    return [str(mistake).removeprefix("f.yaml:") for mistake in caught.value.mistakes]


def external(name: str, url: str = "http://10.0.0.7:11434") -> str:
    """Return an entry of `external` in one line."""
    return f"{{name: {name}, url: '{url}', memory: 8GiB}}"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("workers: []", "1: workers: is an empty list: write at least one worker, or auto"),
        (
            "workers: [{name: a, models: []}]",
            "1: workers[0].models: is an empty list, so it would serve nothing: name models, or leave it out",
        ),
        (
            f"workers: [{{name: a}}]\nexternal: [{external('a')}]",
            '2: external[0].name: "a" is the name of workers[0] already: each needs its own',
        ),
        (
            f"external:\n- {external('a')}\n- {external('a', 'http://b:1')}",
            '3: external[1].name: "a" is the name of external[0] already: each needs its own',
        ),
        (
            f"external:\n- {external('a', 'http://box')}\n- {external('b', 'http://BOX:80')}",
            "3: external[1].url: is the address of external[0] already: its slots would count twice",
        ),
        (
            f"external: [{external('a', 'http://localhost:11434')}]",
            (
                "1: external[0].url: is where Corral itself listens (127.0.0.1:11434): "
                "write the worker's own address"
            ),
        ),
        (
            "workers: [{name: a, gpus: [0], cores: 0-3}]",
            "1: workers[0].cores: is for CPU workers, and this one has gpus: remove one of the two",
        ),
        (
            "gateway: {max_body_size: 64MiB, body_memory: 100MiB}",
            (
                "1: gateway.body_memory: holds not even two of the largest bodies (max_body_size, 67108864 "
                "bytes): raise it, or lower max_body_size"
            ),
        ),
        (
            "worker_defaults: {kv_cache_type: q8_0}",
            (
                "1: worker_defaults.kv_cache_type: Ollama ignores q8_0 without flash attention: "
                "write flash_attention: true too"
            ),
        ),
        (
            (
                "worker_defaults: {flash_attention: true}\n"
                "workers:\n- {name: a, kv_cache_type: q4_0}\n"
                "- {name: b, kv_cache_type: q4_0, flash_attention: false}"
            ),
            (
                "4: workers[1].kv_cache_type: Ollama ignores q4_0 without flash attention: "
                "write flash_attention: true too"
            ),
        ),
        (
            "models: {llama3: {}, 'Llama3:latest': {}}",
            "1: models.Llama3:latest: is the model llama3 again, in other words: keep one of the two",
        ),
        (
            "models: {a: {aliases: [x]}, b: {aliases: ['x:latest']}}",
            '1: models.b.aliases[0]: "x:latest" is an alias of a already: it can mean one model',
        ),
        (
            "models: {a: {aliases: [b]}, b: {}}",
            '1: models.a.aliases[0]: "b" is a model of this file itself: choose another name',
        ),
        (
            "models: {a: {aliases: [x]}}\nworkers: [{name: w, models: [y, x]}]",
            '2: workers[0].models[1]: "x" is an alias: write the model\'s name, a',
        ),
        (
            "models: {a: {min_replicas: 3, max_replicas: 2}}",
            "1: models.a.max_replicas: 2 is less than min_replicas, 3: raise it, or leave it out",
        ),
    ],
)
def test_what_cannot_be_true_at_once_is_named_with_what_to_write(text: str, mistake: str) -> None:
    """One sentence for each contradiction, at the line that can mend it."""
    assert mistakes_of(text) == [mistake]


@pytest.mark.parametrize(
    "text",
    [
        f"workers: []\nexternal: [{external('a')}]",
        f"external: [{external('a', 'http://localhost:11435')}, {external('b', 'https://localhost')}]",
        f"auth: none\nlisten: 0.0.0.0:11434\nexternal: [{external('a')}]",
        "worker_defaults: {kv_cache_type: q8_0, flash_attention: true}",
        "worker_defaults: {kv_cache_type: f16}",
        "models: {a: {aliases: [x, y], min_replicas: 2, max_replicas: 2}, b: {aliases: [z]}}",
    ],
)
def test_what_can_be_true_at_once_is_let_through(text: str) -> None:
    """Only contradictions are refused."""
    assert isinstance(parse_config(text, file="f.yaml"), Config)


def test_the_line_that_names_this_corral_is_found_through_any_address() -> None:
    """All addresses include loopback."""
    text = f"auth: none\nlisten: '[::]:80'\nexternal: [{external('a', 'http://127.0.0.1')}]"
    assert "is where Corral itself listens ([::]:80)" in mistakes_of(text)[0]


def servers(*dedications: tuple[str, ...] | None, places: int = 1) -> list[Server]:
    """Return workers w0, w1, ... with what each is dedicated to."""
    return [
        Server(name=f"w{number}", models=models, max_loaded_models=places)
        for number, models in enumerate(dedications)
    ]


def test_a_model_that_no_worker_may_serve_is_named() -> None:
    """Every worker is dedicated to others; names are compared as Ollama reads them."""
    config = a_config({"models": {"a": {}, "B": {}}})
    found = models_without_workers(config, servers(("b:latest",), ("c",)))
    assert list(map(str, found)) == ["models.a: no worker may serve it: all 2 are dedicated to other models"]


def test_more_replicas_than_workers_that_may_hold_them_are_refused_with_the_numbers() -> None:
    """A worker holds a model once."""
    config = a_config({"models": {"a": {"min_replicas": 3}}})
    found = models_without_workers(config, servers(None, ("b",), ("a",)))
    assert list(map(str, found)) == [
        "models.a.min_replicas: 3 workers are to hold it, but only 2 may serve it (w0, w2)"
    ]


def test_more_pinned_models_than_places_are_refused_with_the_numbers() -> None:
    """Nothing would ever be unloaded to make room."""
    config = a_config({"models": {"a": {"pin": True}, "b": {"min_replicas": 2}, "c": {}}})
    assert models_without_workers(config, servers(None, None, places=2)) == []
    assert list(map(str, models_without_workers(config, servers(None, None)))) == [
        (
            "models: 3 models are to stay loaded (pin, min_replicas), but all workers together hold 2 "
            "(max_loaded_models): pin fewer or raise it"
        )
    ]
