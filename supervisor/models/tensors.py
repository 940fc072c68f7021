"""What a GGUF file says of one tensor: its type by name, and how many bytes that means. Pure.

Source: ggml's type table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

_TYPES: Final = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Name, elements of a block, bytes of a block; by the number in the file."""
_UNKNOWN: Final = ("unknown", 1, 0)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor."""

    name: str
    shape: tuple[int, ...]
    code: int
    """The number of its type."""
    offset: int
    """Bytes from the start of all tensors' data."""

    @property
    def type_name(self) -> str:
        """Its type as clients are told."""
        return _TYPES.get(self.code, _UNKNOWN)[0]

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of its data; 0 of a type that is not known."""
        _, block, size = _TYPES.get(self.code, _UNKNOWN)
        return self.elements // block * size
