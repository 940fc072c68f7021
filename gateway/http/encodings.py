"""What a request's Content-Encoding needs: which decoder, in pieces of bounded size. Pure.

A few bytes may stand for gigabytes, so nothing is ever inflated in one go: whoever reads takes a piece at a
time and stops when it has had enough.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 2**18
"""Inflating so much takes well under a millisecond."""
SUPPORTED: Final = "gzip, deflate and zstd"

_AUTO_HEADER: Final = 32 + zlib.MAX_WBITS
"""Tells zlib to expect a gzip or a zlib header."""
_NO_HEADER: Final = -zlib.MAX_WBITS
_DEFLATE_METHOD: Final = 8
"""In the low half of the first byte of a zlib header; some clients send `deflate` without the header."""
_CUT_OFF: Final = "it ends early"


class UnsupportedEncodingError(ValueError):
    """A Content-Encoding that is not decoded; says which are."""


class CorruptBodyError(ValueError):
    """The bytes are not what Content-Encoding says, or end early."""


class Decoder(Protocol):
    """Decodes one body, in order."""

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what the next bytes stand for, `PIECE_BYTES` at most each.

        Raises:
            CorruptBodyError: they cannot be decoded.
        """

    def finish(self) -> None:
        """Check that the body is whole.

        Raises:
            CorruptBodyError: it ends early.
        """


def decoder_of(content_encoding: str) -> Decoder | None:
    """Return what decodes a body with this header, or None when it is plain.

    Raises:
        UnsupportedEncodingError: it is encoded otherwise, or more than once.
    """
    codings = [part.strip().lower() for part in content_encoding.split(",")]
    applied = [coding for coding in codings if coding not in ("", "identity")]
    if not applied:
        return None
    make = _DECODERS.get(applied[0]) if len(applied) == 1 else None
    if make is None:
        text = f"Content-Encoding {content_encoding!r} is not supported: send {SUPPORTED} or none"
        raise UnsupportedEncodingError(text)
    return make()


class _Zlib:
    """gzip, also of several members, and deflate with or without its header."""

    def __init__(self, *, header_may_lack: bool) -> None:
        self._header_may_lack = header_may_lack
        self._wbits = _AUTO_HEADER
        self._engine = zlib.decompressobj(self._wbits)
        self._started = False

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        self._begin(chunk)
        left, full = chunk, False
        while left or full:
            if self._engine.eof:
                self._engine = zlib.decompressobj(self._wbits)
            try:
                piece = self._engine.decompress(left, PIECE_BYTES)
            except zlib.error as error:
                raise CorruptBodyError(str(error)) from error
            full = len(piece) == PIECE_BYTES and not self._engine.eof
            left = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
            yield piece

    def finish(self) -> None:
        if self._started and not self._engine.eof:
            raise CorruptBodyError(_CUT_OFF)

    def _begin(self, chunk: bytes) -> None:
        if self._started or not chunk:
            return
        self._started = True
        if self._header_may_lack and chunk[0] & 0x0F != _DEFLATE_METHOD:
            self._wbits = _NO_HEADER
            self._engine = zlib.decompressobj(self._wbits)


class _Zstd:
    """zstd, also of several frames."""

    def __init__(self) -> None:
        self._engine = zstd.ZstdDecompressor()
        self._started = False

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        self._started = self._started or bool(chunk)
        left, more = chunk, bool(chunk)
        while more:
            if self._engine.eof:
                self._engine = zstd.ZstdDecompressor()
            try:
                piece = self._engine.decompress(left, PIECE_BYTES)
            except zstd.ZstdError as error:
                raise CorruptBodyError(str(error)) from error
            left = self._engine.unused_data if self._engine.eof else b""
            more = bool(left) if self._engine.eof else not self._engine.needs_input
            yield piece

    def finish(self) -> None:
        if self._started and not self._engine.eof:
            raise CorruptBodyError(_CUT_OFF)


_DECODERS: Final[dict[str, Callable[[], Decoder]]] = {
    "gzip": partial(_Zlib, header_may_lack=False),
    "x-gzip": partial(_Zlib, header_may_lack=False),
    "deflate": partial(_Zlib, header_may_lack=True),
    "zstd": _Zstd,
}
