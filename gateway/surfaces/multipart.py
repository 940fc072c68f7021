"""Where the fields of a multipart form stand in its body; nothing of the body is copied but small texts.

Decides as much of RFC 7578 as a gateway needs to find a field by its name. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Final

_HEAD_END: Final = b"\r\n\r\n"
_MOST_HEAD_BYTES: Final = 16 * 1024
_NAME: Final = re.compile(rb"(?im)^content-disposition:.*?;\s*name=(?:\"([^\"\r\n]*)\"|([^;\s]+))")
_FILE: Final = re.compile(rb"(?im)^content-disposition:.*?;\s*filename\*?=")


class FormError(ValueError):
    """It is no form, or a broken one; the text says why."""


@dataclass(frozen=True, slots=True)
class Field:
    """One part of a form."""

    name: str
    start: int
    """Of its content in the body."""
    end: int
    is_file: bool

    @property
    def size_bytes(self) -> int:
        """Of its content."""
        return self.end - self.start


def fields_of(content_type: str, body: bytes) -> dict[str, Field]:
    """Return the fields of a form by their names; of several with one name the first, as Ollama takes it.

    Raises:
        FormError: the content type is another, or the body does not fit it.
    """
    fields: dict[str, Field] = {}
    for field in _fields(b"--" + _boundary_of(content_type), body):
        fields.setdefault(field.name, field)
    return fields


def _boundary_of(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    boundary = header.get_param("boundary", "")
    if header.get_content_type() != "multipart/form-data":
        raise FormError("the request's Content-Type isn't multipart/form-data")
    if not isinstance(boundary, str) or not boundary:
        raise FormError("no multipart boundary param in Content-Type")
    return boundary.encode(errors="replace")


def _fields(delimiter: bytes, body: bytes) -> Iterator[Field]:
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if at == 1:
        raise FormError("the body does not begin with the boundary that its Content-Type names")
    while True:
        at += len(delimiter)
        if body.startswith(b"--", at):
            return
        head_end = body.find(_HEAD_END, at, at + _MOST_HEAD_BYTES)
        following = body.find(b"\r\n" + delimiter, max(at, head_end))
        if head_end < 0 or following < 0:
            raise FormError("the form ends in the middle of a part")
        yield from _field(body[at:head_end], head_end + len(_HEAD_END), following)
        at = following + 2


def _field(head: bytes, start: int, end: int) -> Iterator[Field]:
    named = _NAME.search(head)
    if named is not None:
        name = (named[1] if named[1] is not None else named[2]).decode(errors="replace")
        yield Field(name, start, max(start, end), _FILE.search(head) is not None)
