"""The text that the demo models are made of, and what stands beside what in it.

Reads `text.txt`: one paragraph on each line, in words, commas, full stops and question marks only. Knows
nothing of transformers.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_PIECE = re.compile(r" ?[A-Za-z]+|[.,?]")
_SEPARATE = re.compile(r"[.?]")


def paragraphs() -> list[list[str]]:
    """Each paragraph as the tokens that spell it; all words but the first carry the space before them."""
    text = Path(__file__).with_name("text.txt").read_text(encoding="ascii")
    return [_PIECE.findall(line) for line in text.splitlines()]


def key(token: str) -> str:
    """What a token means, whatever its case and the space before it."""
    return token.strip().lower()


def forms(word: str) -> tuple[str, str, str, str]:
    """The ways in which a word can stand in a prompt."""
    return word, word.capitalize(), f" {word}", f" {word.capitalize()}"


@dataclass(frozen=True)
class Topics:
    """Words as directions: those that share paragraphs lie close together.

    Attributes:
        words: All words of the text, in the order of the rows.
        vectors: A unit vector for each word.
        rarity: Natural logarithm of paragraphs per paragraph with the word; 0 for a word found in each.
    """

    words: tuple[str, ...]
    vectors: Matrix
    rarity: Matrix


def topics(dimensions: int) -> Topics:
    """Factorise the positive pointwise mutual information of words that share a paragraph."""
    groups = [sorted({key(token) for token in line if token.strip().isalpha()}) for line in paragraphs()]
    words = tuple(sorted({word for group in groups for word in group}))
    row = {word: at for at, word in enumerate(words)}
    found = Counter(word for group in groups for word in group)
    alone = np.array([found[word] for word in words], np.float64)
    together = np.diag(alone)
    for group in groups:
        for left, right in combinations([row[word] for word in group], 2):
            together[left, right] += 1
            together[right, left] += 1
    with np.errstate(divide="ignore"):
        information = np.log(together * len(groups) / np.outer(alone, alone))
    values, directions = np.linalg.eigh(np.maximum(information, 0))
    kept = np.argsort(values)[-dimensions:]
    vectors = directions[:, kept] * np.sqrt(np.maximum(values[kept], 0))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Topics(words, vectors.astype(np.float32), np.log(len(groups) / alone).astype(np.float32))
