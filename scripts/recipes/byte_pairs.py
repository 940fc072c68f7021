"""Byte-pair encoding in which every word of a list becomes one token.

Text is cut the way GPT-2 cuts it: a word carries the space before it. A vocabulary holds the control
tokens, the 256 bytes and the words; a piece of a word falls back to bytes. A merge learned later ranks
lower and is never preferred to an earlier one, so a word that is one token stays one, however many follow.

Knows nothing of weights, and nothing of files.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
PADDING = "<|pad|>"
CONTROL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END, PADDING)

Merge = tuple[str, str]


def byte_alphabet() -> tuple[str, ...]:
    """The printable character that stands for each byte value in a GPT-2 vocabulary."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (chr(code) for code in range(256, 512))
    return tuple(chr(byte) if byte in printable else next(others) for byte in range(256))


_ALPHABET = byte_alphabet()


def spell(text: str) -> str:
    """The text in the byte alphabet, in which a space is `Ġ`."""
    return "".join(_ALPHABET[byte] for byte in text.encode())


def encode(spelled: str, ranks: Mapping[Merge, int]) -> list[str]:
    """Apply merges to one spelled word: the best ranked first, the leftmost of equals."""
    parts = list(spelled)
    while len(parts) > 1:
        pairs = enumerate(pairwise(parts))
        rank, at = min((ranks.get(pair, len(ranks)), at) for at, pair in pairs)
        if rank == len(ranks):
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def learn(spelled: Iterable[str]) -> tuple[Merge, ...]:
    """Merges under which each of these spelled words becomes one piece."""
    ranks: dict[Merge, int] = {}
    for word in spelled:
        parts = encode(word, ranks)
        while len(parts) > 1:
            ranks[parts[0], parts[1]] = len(ranks)
            parts = encode(word, ranks)
    return tuple(ranks)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids, and the merges that make them."""

    tokens: tuple[str, ...]
    merges: tuple[Merge, ...]
    ids: Mapping[str, int] = field(repr=False)

    @classmethod
    def of(cls, words: Iterable[str]) -> "Vocabulary":
        """A vocabulary in which each of these words is one token."""
        spelled = dict.fromkeys(spell(word) for word in words)
        merges = learn(spelled)
        tokens = (*CONTROL_TOKENS, *_ALPHABET, *(word for word in spelled if len(word) > 1))
        return cls(tokens, merges, {token: number for number, token in enumerate(tokens)})

    def __len__(self) -> int:
        return len(self.tokens)

    def control(self, token: str) -> int:
        """The id of one of `CONTROL_TOKENS`."""
        return self.ids[token]

    def word(self, word: str) -> int:
        """The id of a word that is one token, written with its space if it has one."""
        return self.ids[spell(word)]
