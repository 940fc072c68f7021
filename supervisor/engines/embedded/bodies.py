"""Request bodies as Go's encoding/json reads them, with its error texts. Pure.

Ollama's leniency is part of its API: keys match in any case, unknown keys and trailing data are
ignored, the last of two equal keys wins, null is as if absent, and no Content-Type is needed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from supervisor.contract.go_json import mismatch, syntax_error
from supervisor.engines.embedded.failures import BAD_REQUEST, ApiError
from supervisor.engines.embedded.nested import INSIDE, Place, checked
from supervisor.engines.embedded.structs import ELEMENTS, MESSAGE, TYPES, Kind, Struct, fits

_LONGEST_INTEGER: Final = 4000
"""Digits; Python reads no more, and no field of any request can hold more than 19."""
_NO_BASE64: Final = re.compile(r"[^A-Za-z0-9+/]")
_QUANTUM: Final = 4
_LONE_SURROGATE: Final = re.compile(
    r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL
)
"""Half of a pair where the group is found, which Go reads as U+FFFD; else another escape, or a whole pair."""
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def decode(raw: bytes, struct: Struct) -> dict[str, Any]:
    """Return the known fields of a body, under their own names; what is null is missing.

    Raises:
        ApiError: 400 with Go's text: no body, no JSON, or a field of another type.
    """
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise ApiError(BAD_REQUEST, struct.no_body)
    try:
        value, _ = _DECODER.raw_decode(_with_whole_characters(text))
    except ValueError as error:
        raise ApiError(BAD_REQUEST, syntax_error(text)) from error
    except RecursionError as error:
        raise ApiError(BAD_REQUEST, "exceeded max depth") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ApiError(BAD_REQUEST, mismatch(value, f"{struct.package}.{struct.name}"))
    return fields_of(value, struct)


def fields_of(value: Mapping[str, Any], struct: Struct) -> dict[str, Any]:
    """Return the fields of `struct` in an object, checked.

    Raises:
        ApiError: 400, a field has another type.
    """
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = key.lower()
        kind = struct.fields.get(name)
        if kind is not None and item is not None:
            found[name] = _checked(item, kind, f"{struct.name}.{name}")
    return found


def check_base64(text: str) -> None:
    """Refuse what is no base64, with Go's text.

    Raises:
        ApiError: 400, it names the place.
    """
    packed = text.replace("\r", "").replace("\n", "")
    try:
        base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError) as error:
        bare = packed.rstrip("=")
        bad = _NO_BASE64.search(bare)
        place = bad.start() if bad else len(packed) - len(packed) % _QUANTUM
        raise ApiError(BAD_REQUEST, f"illegal base64 data at input byte {place}") from error


def _checked(value: Any, kind: Kind, path: str) -> Any:  # noqa: ANN401 -- any JSON
    if not fits(value, TYPES[kind]):
        raise ApiError(BAD_REQUEST, mismatch(value, kind.value, path))
    element, name = ELEMENTS.get(kind, (object, ""))
    for item in _elements(value) if kind in ELEMENTS else ():
        if item is not None and not fits(item, (element,)):
            raise ApiError(BAD_REQUEST, mismatch(item, name, path))
    if kind is Kind.IMAGES:
        for image in value:
            check_base64(image or "")
    if kind is Kind.MESSAGES:
        return [fields_of(message or {}, MESSAGE) for message in value]
    if kind is Kind.INTS:
        return [item or 0 for item in value]
    if kind in INSIDE:
        struct, _, field = path.partition(".")
        return checked(value, INSIDE[kind], Place(struct, field, blind="." in field))
    if kind is Kind.FILES:
        return {name: item or "" for name, item in value.items()}
    return [item for item in value if item is not None] if kind in ELEMENTS else value


def _elements(value: Any) -> Iterable[Any]:  # noqa: ANN401 -- any JSON
    return value.values() if isinstance(value, dict) else value


def _with_whole_characters(text: str) -> str:
    """Return JSON without halves of surrogate pairs, which cannot be sent on as UTF-8."""
    return _LONE_SURROGATE.sub(_replaced, text) if _SURROGATE.search(text) else text


def _replaced(escape: re.Match[str]) -> str:
    return r"\ufffd" if escape[1] else escape[0]


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONGEST_INTEGER else float(digits)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_constant=_no_constant)
