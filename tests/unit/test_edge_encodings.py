from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable

import pytest

from gateway.http.encodings import (
    PIECE_BYTES,
    CorruptBodyError,
    UnsupportedEncodingError,
    decoder_of,
)
from tests.support.compressed import zstd_compress

TEXT = b"".join(b"line %d\n" % number for number in range(1000))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd_compress,
}
RAW_DEFLATE = zlib.compressobj(wbits=-15)
ENCODED = {
    "gzip": gzip.compress(TEXT),
    "GZIP": gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:]),
    "x-gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "identity, deflate": RAW_DEFLATE.compress(TEXT) + RAW_DEFLATE.flush(),
    "zstd": zstd_compress(TEXT),
    " zstd ": zstd_compress(TEXT[:9]) + zstd_compress(TEXT[9:]),
}


def decoded(encoding: str, body: bytes, step: int) -> bytes:
    """Decode a body that comes in chunks of `step` bytes."""
    decoder = decoder_of(encoding)
    assert decoder is not None
    parts = [piece for at in range(0, len(body), step) for piece in decoder.pieces(body[at : at + step])]
    decoder.finish()
    return b"".join(parts)


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_bodies_are_decoded_however_they_arrive(encoding: str, step: int) -> None:
    """Byte by byte, whole, and in several members or frames."""
    assert decoded(encoding, ENCODED[encoding], step) == TEXT


@pytest.mark.parametrize("encoding", ["", "identity", " Identity ,"])
def test_plain_bodies_need_no_decoder(encoding: str) -> None:
    """Nothing stands between the socket and the reader."""
    assert decoder_of(encoding) is None


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip", "zstd, gzip", "base64"])
def test_other_encodings_are_refused_with_those_that_are_not(encoding: str) -> None:
    """Nobody nests them, and a bomb may."""
    with pytest.raises(UnsupportedEncodingError, match="gzip, deflate and zstd"):
        decoder_of(encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_what_is_broken_or_ends_early_is_told(encoding: str) -> None:
    """A stump must not pass for a body."""
    body = ENCODED[encoding]
    for wrong in (body[:-3], b"{}" + body, body + b"rest"):
        with pytest.raises(CorruptBodyError):
            decoded(encoding, wrong, 100)
    assert decoded(encoding, b"", 1) == b""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_no_piece_is_large_however_much_a_byte_stands_for(encoding: str) -> None:
    """The reader can stop after any of them."""
    bomb = COMPRESS[encoding]
    decoder = decoder_of(encoding)
    assert decoder is not None
    sizes = [len(piece) for piece in decoder.pieces(bomb(bytes(2**24)))]
    assert max(sizes) <= PIECE_BYTES
    assert sum(sizes) == 2**24


def test_noise_goes_through() -> None:
    """What cannot be compressed is longer encoded than plain."""
    noise = os.urandom(3 * PIECE_BYTES + 1)
    assert decoded("zstd", zstd_compress(noise), 1000) == noise
    assert decoded("gzip", gzip.compress(noise), 1000) == noise
