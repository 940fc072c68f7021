"""The body of /api/show: everything that a model's files say of it.

Decides what is shown; a verbose answer reads the header anew, because nobody else wants vocabularies.

Source: Ollama 0.24 `server/routes.go` (GetModelInfo).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any, Final

from supervisor.engines.embedded.frames import timestamp
from supervisor.models.directory import file_id, header_of, read_header
from supervisor.models.gguf import Header, InvalidGgufError
from supervisor.models.model import ModelFile
from supervisor.models.modelfile import Modelfile
from supervisor.models.prompt_template import DEFAULT_TEMPLATE

_NANOSECONDS: Final = 1e9
_NOT_SHOWN: Final = ("general.name", "tokenizer.chat_template")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """How a client wants it shown."""

    verbose: bool = False
    """With vocabularies and other arrays, which are null otherwise."""
    system: str = ""
    """Shown in place of the model's own."""
    options: Mapping[str, Any] | None = None
    """Shown in the Modelfile along with the model's own parameters."""


def modified_at(model: ModelFile) -> datetime:
    """Return when the file changed last."""
    return datetime.fromtimestamp(model.modified_ns / _NANOSECONDS, UTC)


def shown(model: ModelFile, question: Question) -> dict[str, Any]:
    """Return the body of /api/show. Reads the model's file: call it in a thread.

    Raises:
        OSError: it is gone.
    """
    made = model.entry.modelfile if model.entry is not None else Modelfile()
    header = _header(Path(model.id.path), verbose=question.verbose)
    return _told(model, made, question) | {
        "details": model.details | {"parent_model": made.parent},
        "model_info": _info(header, verbose=question.verbose) if header else {},
        "tensors": _tensors(header) if header else [],
        **_projector(made, verbose=question.verbose),
        "capabilities": list(model.capabilities),
        "modified_at": timestamp(modified_at(model)),
    }


def _header(path: Path, *, verbose: bool) -> Header | None:
    """Return the header; None when it is broken, which loading the model tells in detail."""
    file = None if verbose else file_id(str(path))
    try:
        return read_header(path, kept_array_length=inf) if file is None else header_of(file)
    except InvalidGgufError:
        return None


def _info(header: Header, *, verbose: bool) -> dict[str, Any]:
    values = {**header.values, "general.parameter_count": header.parameter_count}
    shown = {key: values[key] for key in sorted(values) if key not in _NOT_SHOWN}
    return shown if verbose else {key: _without_array(value) for key, value in shown.items()}


def _without_array(value: object) -> object:
    return None if isinstance(value, tuple) else value


def _tensors(header: Header) -> list[dict[str, Any]]:
    return [{"name": t.name, "type": t.type_name, "shape": list(t.shape)} for t in header.tensors]


def _projector(made: Modelfile, *, verbose: bool) -> dict[str, Any]:
    if not made.projectors:
        return {}
    header = _header(Path(made.projectors[0]), verbose=verbose)
    return {"projector_info": _info(header, verbose=verbose)} if header else {}


def _told(model: ModelFile, made: Modelfile, question: Question) -> dict[str, Any]:
    """Return what is said beside the weights; what is empty is left out, as Go does."""
    system = question.system or made.system
    asked = replace(made, system=system, parameters={**made.parameters, **(question.options or {})})
    told = {
        "license": "\n".join(made.licenses),
        "modelfile": asked.text(model.id.path, model.name.short),
        "parameters": made.parameter_lines,
        "template": made.template or model.facts.chat_template or DEFAULT_TEMPLATE,
        "system": system,
        "messages": [{"role": m.get("role", ""), "content": m.get("content", "")} for m in made.messages],
        "requires": made.config.get("requires"),
    }
    return {name: value for name, value in told.items() if value}
