"""The models that can be asked for, as each API lists them: /api/tags, OpenAI's and Anthropic's /v1/models.

Decides the shapes, the order and the pages. Which models there are, and what the workers say of them, is
given. An alias is listed like a model, because clients offer what is listed and nothing else: as Ollama
lists a copy, under /v1 by the very words that the operator chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.surfaces.surface import BadRequestError
from supervisor.contract.names import DEFAULT_NAMESPACE, InvalidModelNameError, ModelName

ANTHROPIC_HEADER: Final = "anthropic-version"
"""Every client of Anthropic's sends it and no client of OpenAI's: it tells whose /v1/models is asked for."""
_PAGE: Final = 20
_LARGEST_PAGE: Final = 1000
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Listed:
    """A name that clients may ask for, and what is known of the model behind it."""

    name: str
    """With its tag, as Ollama lists names."""
    row: Mapping[str, Any]
    """As a worker's /api/tags gives it."""
    workers: tuple[str, ...] = ()
    """Those that have just this model under that name."""
    alias: str = ""
    """As the operator wrote it; empty for a model's own name."""

    @property
    def id(self) -> str:
        """As /v1/models lists it."""
        return self.alias or self.name

    @property
    def own_name(self) -> str:
        """As the workers know it."""
        return str(self.row.get("name") or self.name)

    @property
    def digest(self) -> str:
        """Of its manifest."""
        return str(self.row.get("digest") or "")

    @property
    def modified_at(self) -> datetime:
        """When the model came into the store, as far as the worker tells."""
        return moment(self.row.get("modified_at"))


def moment(text: object) -> datetime:
    """Return the time of an RFC 3339 text; the epoch for what is none."""
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        return _LONG_AGO
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)


def ordered(models: Sequence[Listed]) -> list[Listed]:
    """Return the youngest first, as Ollama lists them; by name where they are as old."""
    by_name = sorted(models, key=lambda model: model.name)
    return sorted(by_name, key=lambda model: int(model.modified_at.timestamp()), reverse=True)


# Ollama ---------------------------------------------------------------------------------


def tags(models: Sequence[Listed]) -> dict[str, Any]:
    """Return the answer of /api/tags: the workers' rows with Corral's fields behind."""
    return {"models": [_tags_row(model) for model in ordered(models)]}


def _tags_row(model: Listed) -> dict[str, Any]:
    alias = {"alias_of": model.own_name} if model.alias else {}
    return {**model.row, "name": model.name, "model": model.name, **alias, "workers": list(model.workers)}


# OpenAI ---------------------------------------------------------------------------------


def openai_list(models: Sequence[Listed]) -> dict[str, Any]:
    """Return OpenAI's list."""
    return {"object": "list", "data": [openai_model(model, model.id) for model in ordered(models)]}


def openai_model(model: Listed, asked: str) -> dict[str, Any]:
    """Return OpenAI's model object under the name that was asked for."""
    created = int(model.modified_at.timestamp())
    return {"id": asked, "object": "model", "created": created, "owned_by": _namespace(asked)}


def _namespace(name: str) -> str:
    try:
        return ModelName.parse(name).namespace
    except InvalidModelNameError:
        return DEFAULT_NAMESPACE


# Anthropic ------------------------------------------------------------------------------


def anthropic_list(models: Sequence[Listed], query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of Anthropic's list.

    Raises:
        BadRequestError: a `limit` that is no number from 1 to 1000, or a cursor that names no model.
    """
    every = ordered(models)
    first, last = _window([model.id for model in every], query)
    limit = _limit(query.get("limit"))
    backwards = "before_id" in query and "after_id" not in query
    page = every[max(first, last - limit) : last] if backwards else every[first : min(last, first + limit)]
    ids = [model.id for model in page]
    return {
        "data": [anthropic_model(model, model.id) for model in page],
        "has_more": len(page) < last - first,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


def anthropic_model(model: Listed, asked: str) -> dict[str, Any]:
    """Return Anthropic's model object under the name that was asked for."""
    created = model.modified_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"type": "model", "id": asked, "display_name": asked, "created_at": created}


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:5]) <= _LARGEST_PAGE:
        raise BadRequestError(f"limit: must be a number from 1 to {_LARGEST_PAGE}")
    return int(text)


def _window(ids: Sequence[str], query: Mapping[str, str]) -> tuple[int, int]:
    """Return where the models between the two cursors begin and end."""
    after, before = query.get("after_id"), query.get("before_id")
    for name, cursor in (("after_id", after), ("before_id", before)):
        if cursor is not None and cursor not in ids:
            raise BadRequestError(f"{name}: no model '{cursor}' is listed")
    first = 0 if after is None else ids.index(after) + 1
    return first, max(first, len(ids) if before is None else ids.index(before))
