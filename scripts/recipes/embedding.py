"""The demo embedding model: the topics of `text.txt` as a transformer that does nothing but look them up.

The vector of a text is the mean over its tokens, each turned into the topic of its word and louder the
rarer the word is. So texts about the same things lie close together, whatever little words they use.
Words that the text does not know share a faint direction of their own.
"""

from pathlib import Path

import numpy as np

from scripts.recipes.byte_pairs import Vocabulary
from scripts.recipes.llama_gguf import Matrix, Model, Shape, idle_blocks, write
from scripts.recipes.prose import Topics, forms, topics
from scripts.recipes.stamp import stamp

NAME = "corral-embed"

_SHAPE = Shape(width=64, layers=1, heads=1, feed_forward=64, context=2048)
_UNKNOWN = 0  # the component that belongs to words outside the text
_CONSTANT = 1  # beside which the norm leaves the loudness of a word as it is
_LOUD = 200.0
_FAINT = 0.05


def recipe_of(*, name: str) -> str:
    """The stamp of an embedding model of this name."""
    return stamp("embedding", name)


def embedding(path: Path, *, name: str = NAME) -> None:
    """Write the embedding model.

    Raises:
        OSError: The file cannot be written.
    """
    subjects = topics(_SHAPE.width - 2)
    vocabulary = Vocabulary.of([form for word in subjects.words for form in forms(word)])
    # The norm before the output divides by the constant; its weight keeps all but the constant.
    kept = np.full(_SHAPE.width, _LOUD / np.sqrt(_SHAPE.width), np.float32)
    kept[_CONSTANT] = 0.0
    weights = {
        "token_embd.weight": _vectors(vocabulary, subjects),
        "output_norm.weight": kept,
        **idle_blocks(_SHAPE),
    }
    recipe = recipe_of(name=name)
    write(
        path,
        Model(name=name, recipe=recipe, shape=_SHAPE, vocabulary=vocabulary, weights=weights, embeds=True),
    )


def _vectors(vocabulary: Vocabulary, subjects: Topics) -> Matrix:
    vectors = np.zeros((len(vocabulary), _SHAPE.width), np.float32)
    vectors[:, _CONSTANT] = _LOUD
    vectors[:, _UNKNOWN] = _FAINT
    for word, direction, rarity in zip(subjects.words, subjects.vectors, subjects.rarity, strict=True):
        rows = [vocabulary.word(form) for form in forms(word)]
        vectors[rows, _UNKNOWN] = 0.0
        vectors[rows, 2:] = direction * rarity
    return vectors
