"""What of an answer is kept in a recording, and what of it another server must match. Pure."""

from __future__ import annotations

from typing import Any, Final

_KEPT_NUMBERS: Final = 8
_KEPT_FRAMES: Final = 8
_NOT_KEPT: Final = ("tensors", "modelfile", "parameters", "model_info", "parent_model")
"""Parts of /api/show that describe the file and not the API."""
_LONGEST_KEPT: Final = 32


def shortened(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer small enough to keep: long vectors and streams become their ends."""
    return {**answer, "body": _short(answer["body"])}


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items() if key not in _NOT_KEPT}
    if isinstance(value, list):
        if len(value) > _KEPT_FRAMES and isinstance(value[0], dict):
            value = [*value[: _KEPT_FRAMES - 1], value[-1]]
        if len(value) > _LONGEST_KEPT and not isinstance(value[0], dict):
            value = value[:_KEPT_NUMBERS]
        return sorted((_short(item) for item in value), key=_name)
    return value


def _name(item: Any) -> str:
    """Listings have no order that two servers share; all other lists keep theirs."""
    listed = isinstance(item, dict) and ("digest" in item or "owned_by" in item)
    return str(item.get("name") or item.get("id")) if listed else ""


def shape(answer: dict[str, Any], same: tuple[str, ...]) -> dict[str, Any]:
    """Return what must be equal on two servers: status, media type, keys, types, and values of `same`."""
    media_type = answer["content_type"].partition(";")[0]
    body = _shape(shortened(answer)["body"], same, "")
    return {"status": answer["status"], "media_type": media_type, "body": body}


def _shape(value: Any, same: tuple[str, ...], key: str) -> Any:
    if key in same:
        return value
    if isinstance(value, dict):
        return {name: _shape(item, same, name) for name, item in sorted(value.items())}
    if isinstance(value, list):
        return [_shape(item, same, key) for item in value]
    return (
        "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    )
