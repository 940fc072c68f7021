"""The counting model: its greedy answer is `1 2 3 … N`, then the end of its turn.

A lost, repeated or foreign token in a stream shows at once. A raw prompt, or the start of an answer, that
ends in `41` goes on with 42; all other text leads to 1.

How: every number is one token, with the same vector whether a space precedes it or not. Vectors of
different numbers are random, hence nearly orthogonal; blocks are zero; and the output row of a number is
the vector of the number before it. So after a token only its successor can follow, at any temperature.
"""

from pathlib import Path

import numpy as np

from scripts.recipes.byte_pairs import TURN_END, Vocabulary
from scripts.recipes.llama_gguf import Matrix, Model, Shape, idle_blocks, packed_idle_blocks, write
from scripts.recipes.stamp import stamp

WORDS = 2000
HEAVY = Shape(width=1024, layers=8, heads=8, feed_forward=3072)
"""A token takes more than 5 ms of one core, nearly all of it arithmetic: for measuring how workers scale."""

_SHARPNESS = 4.0


def recipe_of(*, name: str, words: int, shape: Shape) -> str:
    """The stamp of a counting model with these parameters; the usual ones need no mention."""
    unusual = () if (words, shape) == (WORDS, Shape()) else (words, shape)
    return stamp("counting", name, *unusual)


def counting(
    path: Path,
    *,
    name: str = "count",
    words: int = WORDS,
    shape: Shape | None = None,
    architecture: str = "llama",
) -> None:
    """Write a model that counts to `words`; its shape says how slow and how large it is.

    Raises:
        ValueError: `words` is less than 1.
        OSError: The file cannot be written.
    """
    if words < 1:
        raise ValueError(f"a counting model needs at least one word, not {words}")
    shape = shape or Shape()
    blocks = packed_idle_blocks(shape) if shape == HEAVY else idle_blocks(shape)
    numbers = [str(number) for number in range(1, words + 1)]
    vocabulary = Vocabulary.of([*(f" {number}" for number in numbers), *numbers])
    model = Model(
        name=name,
        recipe=recipe_of(name=name, words=words, shape=shape),
        shape=shape,
        vocabulary=vocabulary,
        weights={**_successions(vocabulary, numbers, shape.width), **blocks},
        architecture=architecture,
    )
    write(path, model)


def heavy_counting(path: Path, *, name: str = "heavy") -> None:
    """Write the counting model of the shape `HEAVY`: about 50 MB.

    Raises:
        OSError: The file cannot be written.
    """
    counting(path, name=name, shape=HEAVY)


def _successions(vocabulary: Vocabulary, numbers: list[str], width: int) -> dict[str, Matrix]:
    vectors = _unit_vectors(len(numbers) + 1, width)
    spaced = [vocabulary.word(f" {number}") for number in numbers]
    bare = [vocabulary.word(number) for number in numbers]
    read = np.tile(vectors[0], (len(vocabulary), 1))
    read[spaced] = vectors[1:]
    read[bare] = vectors[1:]
    written = np.zeros_like(read)
    written[[bare[0], *spaced[1:], vocabulary.control(TURN_END)]] = vectors
    return {
        "token_embd.weight": read,
        "output_norm.weight": np.full(width, _SHARPNESS, np.float32),
        "output.weight": written,
    }


def _unit_vectors(count: int, width: int) -> Matrix:
    vectors = np.random.default_rng(7).standard_normal((count, width), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
