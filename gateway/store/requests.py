"""What clients ask of the stores: pull, push, create, copy, delete.

Decides what such a request means and which are refused at the door, in Ollama's words. What becomes of it is
`planning.py`'s. Knows no workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.surfaces.naming import wrong_type
from gateway.surfaces.surface import BadRequestError, read_object, with_known_keys
from supervisor.contract.names import InvalidModelNameError, ModelName


class Kind(StrEnum):
    """The operation; its value is the last part of its path."""

    PULL = "pull"
    PUSH = "push"
    CREATE = "create"
    COPY = "copy"
    DELETE = "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """One operation as it was asked for."""

    kind: Kind
    model: str
    """What is pulled, pushed, made or deleted, as the client wrote it."""
    source: str = ""
    """What is copied, or what the new model starts from; empty when that is files."""
    stream: bool = True
    """Whether the client wants to see the progress."""
    body: Mapping[str, Any]
    """What a worker is asked; its answer is always a stream."""

    @property
    def path(self) -> str:
        """Where it is asked for."""
        return f"/api/{self.kind}"

    @property
    def key(self) -> str:
        """The model's identity; empty when it can be no name."""
        return identity(self.model)

    @property
    def source_key(self) -> str:
        """The same of the source."""
        return identity(self.source) if self.source else ""

    @property
    def shows_progress(self) -> bool:
        """Copies and deletions are done in a moment and answered without a body."""
        return self.kind not in {Kind.COPY, Kind.DELETE}


def identity(name: str) -> str:
    """Return what two names of one model have in common; empty when it can be no name."""
    try:
        return ModelName.parse(name).key
    except InvalidModelNameError:
        return ""


def parse(kind: Kind, body: bytes) -> StoreRequest:
    """Read a request.

    Raises:
        BadRequestError: not JSON, a field of the wrong type, or no usable name.
    """
    asked = with_known_keys(read_object(body, f"/api/{kind}"))
    if kind is Kind.COPY:
        return _copy(asked)
    name = _text(kind, asked, "name")
    model = _text(kind, asked, "model") or name
    _check_name(kind, model)
    named = {key: value for key, value in asked.items() if key != "name"}
    return StoreRequest(
        kind=kind,
        model=model,
        source=_text(kind, asked, "from") if kind is Kind.CREATE else "",
        stream=_flag(kind, asked),
        body=named | {"model": model} | ({"stream": True} if kind is not Kind.DELETE else {}),
    )


def _copy(asked: Mapping[str, Any]) -> StoreRequest:
    names = {field: _text(Kind.COPY, asked, field) for field in ("source", "destination")}
    for field, name in names.items():
        if not identity(name) or name != name.strip():
            raise BadRequestError(f'{field} "{name}" is invalid')
    return StoreRequest(
        kind=Kind.COPY, model=names["destination"], source=names["source"], stream=False, body=names
    )


def renamed(request: StoreRequest, *, model: str, source: str) -> StoreRequest:
    """Return the request with what its names stand for."""
    fields = {Kind.COPY: {"source": source, "destination": model}, Kind.CREATE: {"model": model}}
    names = fields.get(request.kind, {"model": model})
    if request.kind is Kind.CREATE and source:
        names = names | {"from": source}
    return StoreRequest(
        kind=request.kind,
        model=model,
        source=source,
        stream=request.stream,
        body={**request.body, **names},
    )


def _check_name(kind: Kind, model: str) -> None:
    """Ollama tells of a bad name in different words; a push of one fails later, in its stream."""
    if not model and kind in {Kind.PUSH, Kind.DELETE}:
        raise BadRequestError("model is required")
    if not identity(model) and kind is Kind.DELETE:
        raise BadRequestError(f'name "{model}" is invalid')
    if not identity(model) and kind is not Kind.PUSH:
        raise BadRequestError("invalid model name")


def _text(kind: Kind, asked: Mapping[str, Any], field: str) -> str:
    value = asked.get(field)
    if value is not None and not isinstance(value, str):
        raise BadRequestError(wrong_type(f"/api/{kind}", field, value, "string"))
    return value or ""


def _flag(kind: Kind, asked: Mapping[str, Any]) -> bool:
    value = asked.get("stream")
    if value is not None and not isinstance(value, bool):
        raise BadRequestError(wrong_type(f"/api/{kind}", "stream", value, "bool"))
    return value is not False
