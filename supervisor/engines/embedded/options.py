"""Ollama's `options`: their types, defaults and names in llama.cpp. Pure.

Source: Ollama 0.24 `api/types.go` (Options.FromMap, DefaultOptions); llama.cpp `tools/server`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.engines.embedded.failures import INTERNAL, ApiError

_INTEGERS: Final = (
    "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "num_keep", "seed", "num_predict",
    "top_k", "repeat_last_n",
)  # fmt: skip
_FLOATS: Final = (
    "top_p", "min_p", "typical_p", "temperature", "repeat_penalty", "presence_penalty", "frequency_penalty",
)  # fmt: skip
_TYPES: Final = {
    **dict.fromkeys(_INTEGERS, "integer"),
    **dict.fromkeys(_FLOATS, "float32"),
    "use_mmap": "boolean",
    "stop": "array",
}
_CLASSES: Final[Mapping[str, tuple[type, ...]]] = {
    "integer": (int, float),
    "float32": (int, float),
    "boolean": (bool,),
    "array": (list,),
}

_DEFAULTS: Final[Mapping[str, Any]] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "num_keep": 4,
    "seed": -1,
    "num_predict": -1,
    "stop": [],
}
_RENAMED: Final = {"num_keep": "n_keep"}
_LONGEST_ANSWER_CONTEXTS: Final = 10
"""Without a limit of its own an answer ends after this many contexts."""


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that Ollama knows, integers as such; unknown names are ignored.

    Raises:
        ApiError: 500 with Ollama's text, an option has another type.
    """
    return {
        name: _checked(name, value) for name, value in options.items() if name in _TYPES and value is not None
    }


def sampling(options: Mapping[str, Any], *, context_length: int) -> dict[str, Any]:
    """Return llama.cpp's parameters for checked options, all of Ollama's defaults included."""
    chosen = {**_DEFAULTS, **{name: options[name] for name in options if name in _DEFAULTS}}
    seed, limit = chosen.pop("seed"), chosen.pop("num_predict")
    longest = _LONGEST_ANSWER_CONTEXTS * context_length
    parameters = {_RENAMED.get(name, name): value for name, value in chosen.items()}
    parameters["n_predict"] = limit if 0 < limit < longest else longest
    if parameters["repeat_last_n"] < 0:  # the whole context, in Ollama
        parameters["repeat_last_n"] = context_length
    return parameters if seed < 0 else {**parameters, "seed": seed}


def _checked(name: str, value: Any) -> Any:  # noqa: ANN401 -- any JSON
    kind = _TYPES[name]
    if not isinstance(value, _CLASSES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise ApiError(INTERNAL, f'option "{name}" must be of type {kind}')
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise ApiError(INTERNAL, f'option "{name}" must be of an array of strings')
    return int(value) if isinstance(value, float) and kind == "integer" else value
