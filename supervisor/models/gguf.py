"""What a GGUF file says of itself: the key-value header and the shapes of its tensors.

Decides how header bytes are read, and nothing about what they mean (see `facts.py`). Works on any
buffer and never trusts a length it finds there.

Source: the GGUF specification, versions 2 and 3, little endian.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from supervisor.models.tensors import Tensor

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...] | None

KEPT_ARRAY_LENGTH: Final = 512
"""Longer arrays (vocabularies, merges) are read over; only their length is kept."""

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_STRING: Final = 8
_ARRAY: Final = 9
_ALIGNMENT: Final = 32
"""Of the tensors' data, where the file names no other."""
_SCALARS: Final = {
    code: struct.Struct("<" + letter)
    for code, letter in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)
}
_U32: Final = _SCALARS[4]
_F32: Final = _SCALARS[6]
_F32_DIGITS: Final = 9
_U64: Final = _SCALARS[10]


class InvalidGgufError(ValueError):
    """Bytes that are no GGUF header, with the reason."""


class TruncatedGgufError(InvalidGgufError):
    """The bytes end inside the header; more of the file may complete it."""

    def __init__(self, length: int) -> None:
        super().__init__(f"the file ends at byte {length} inside its header")


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file."""

    version: int
    values: Mapping[str, Value]
    """Values by key; an array longer than `KEPT_ARRAY_LENGTH` is None."""
    array_lengths: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    data_at: int
    """Where the tensors' data begin, bytes from the start of the file."""

    @property
    def parameter_count(self) -> int:
        """Elements of all tensors together."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def file_bytes(self) -> int:
        """How large a whole file with this header is, at least."""
        return max((self.data_at + t.offset + t.size_bytes for t in self.tensors), default=self.data_at)


@dataclass(slots=True)
class _Cursor:
    """A position in the bytes that cannot leave them."""

    data: memoryview
    kept_array_length: float
    at: int = 0
    lengths: dict[str, int] = field(default_factory=dict)

    def take(self, count: int) -> memoryview:
        end = self.at + count
        if end > len(self.data):
            raise TruncatedGgufError(len(self.data))
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, form: struct.Struct) -> int | float | bool:
        value: int | float | bool = form.unpack(self.take(form.size))[0]
        return _shortest(value) if form is _F32 and math.isfinite(value) else value

    def u64(self) -> int:
        return int(_U64.unpack(self.take(8))[0])

    def u32(self) -> int:
        return int(_U32.unpack(self.take(4))[0])

    def text(self) -> str:
        return str(self.take(self.u64()), "utf-8", "replace")

    def scalar(self, code: int) -> Scalar:
        if code == _STRING:
            return self.text()
        form = _SCALARS.get(code)
        if form is None:
            raise InvalidGgufError(f"unknown value type {code} in the header")
        return self.number(form)


def parse_header(data: bytes | memoryview, *, kept_array_length: float = KEPT_ARRAY_LENGTH) -> Header:
    """Return the header at the start of `data`.

    Args:
        data: The first bytes of the file.
        kept_array_length: Longer arrays are read over; `inf` keeps all.

    Raises:
        InvalidGgufError: not a GGUF file, or an unknown version.
        TruncatedGgufError: `data` ends inside the header.
    """
    cursor = _Cursor(memoryview(data), kept_array_length)
    if len(data) < len(_MAGIC) or bytes(cursor.take(4)) != _MAGIC:
        raise InvalidGgufError("not a GGUF file: the magic bytes are missing")
    version = cursor.u32()
    if version not in _VERSIONS:
        raise InvalidGgufError(f"GGUF version {version} is unknown; 2 and 3 are read")
    tensors, keys = cursor.u64(), cursor.u64()
    values: dict[str, Value] = {}
    for _ in range(keys):
        key = cursor.text()
        values[key] = _value(cursor, key)
    described = tuple(_tensor(cursor) for _ in range(tensors))
    alignment = values.get("general.alignment", _ALIGNMENT)
    step = alignment if isinstance(alignment, int) and alignment > 0 else _ALIGNMENT
    return Header(version, values, cursor.lengths, described, -(-cursor.at // step) * step)


def _value(cursor: _Cursor, key: str) -> Value:
    code = cursor.u32()
    return _array(cursor, key) if code == _ARRAY else cursor.scalar(code)


def _array(cursor: _Cursor, key: str) -> tuple[Scalar, ...] | None:
    code, length = cursor.u32(), cursor.u64()
    cursor.lengths[key] = length
    if length <= cursor.kept_array_length:
        return tuple(cursor.scalar(code) for _ in range(length))
    if code == _STRING:
        _skip_texts(cursor, length)
    elif code in _SCALARS:
        cursor.take(length * _SCALARS[code].size)
    else:
        raise InvalidGgufError(f"array {key} has the unknown element type {code}")
    return None


def _skip_texts(cursor: _Cursor, count: int) -> None:
    """Step over strings; a loop of its own because a vocabulary has 150,000 of them."""
    data, at, unpack = cursor.data, cursor.at, _U64.unpack_from
    try:
        for _ in range(count):
            at += 8 + unpack(data, at)[0]
    except struct.error as error:
        raise TruncatedGgufError(len(data)) from error
    cursor.at = at
    cursor.take(0)


def _shortest(value: float) -> float:
    """Return the number with the fewest digits that is this one in 32 bits, as Go prints it: 1e-05."""
    texts = (f"{value:.{digits}g}" for digits in range(1, _F32_DIGITS + 1))
    return next((n for n in map(float, texts) if _F32.unpack(_F32.pack(n))[0] == value), value)


def _tensor(cursor: _Cursor) -> Tensor:
    name = cursor.text()
    shape = tuple(cursor.u64() for _ in range(cursor.u32()))
    return Tensor(name, shape, code=cursor.u32(), offset=cursor.u64())
