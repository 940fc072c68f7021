"""The reciting model: it says a text that it was given, whatever it is asked, then ends its turn.

For trying clients: the text may be JSON, a tool call, or what an agent framework wants to read. A model
may hold several texts; each begins after a cue, a word that the model's own chat template writes at the
very end of the prompt. The text without a cue begins after anything else.

How: as in the counting model, after a token only its successor can follow. A text is cut into pieces of which
each is found once only, so that the piece alone says what comes next.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from scripts.recipes.byte_pairs import TURN_END, Vocabulary
from scripts.recipes.llama_gguf import CHAT_TEMPLATE, Matrix, Model, Shape, idle_blocks, write
from scripts.recipes.stamp import stamp

ANYTHING = ""
"""The cue of the text that begins where no other does."""

_SHARPNESS = 4.0


def recipe_of(*, name: str, texts: Mapping[str, str], template: str) -> str:
    """The stamp of a reciting model with these parameters."""
    return stamp("reciting", name, sorted(texts.items()), template)


def reciting(path: Path, *, name: str, texts: Mapping[str, str], template: str = CHAT_TEMPLATE) -> None:
    """Write a model that says these texts, each after its cue.

    Raises:
        ValueError: There is no text for `ANYTHING`, or a text cannot be cut into pieces of its own.
        OSError: The file cannot be written.
    """
    if ANYTHING not in texts:
        raise ValueError(f"{name} has no text for prompts without a cue")
    shape = Shape()
    lines = dict(zip(texts, _cut(list(texts.values())), strict=True))
    spoken = [piece for pieces in lines.values() for piece in pieces]
    cues = [cue for cue in texts if cue != ANYTHING]
    vocabulary = Vocabulary.of([*spoken, *cues])
    weights = {**_successions(vocabulary, lines, shape.width), **idle_blocks(shape)}
    recipe = recipe_of(name=name, texts=texts, template=template)
    write(
        path,
        Model(
            name=name, recipe=recipe, shape=shape, vocabulary=vocabulary, weights=weights, template=template
        ),
    )


def _cut(texts: list[str]) -> list[list[str]]:
    """Cut texts into words; one that was there before, or is a single letter, takes the next one with it."""
    seen: set[str] = set()
    return [list(_pieces(text, seen)) for text in texts]


def _pieces(text: str, seen: set[str]) -> Iterator[str]:
    piece = ""
    for word in re.findall(r"\s*\S+\s*$|\s*\S+", text):
        piece += word
        if len(piece.encode()) > 1 and piece not in seen:
            seen.add(piece)
            yield piece
            piece = ""
    if piece:
        raise ValueError(f"the end of a text was said before: {piece!r}; let it end in other words")


def _successions(vocabulary: Vocabulary, lines: Mapping[str, list[str]], width: int) -> dict[str, Matrix]:
    """Each token that leads on has a direction; the token that it leads to answers to that direction."""
    steps = [step for cue, pieces in lines.items() for step in _steps(cue, pieces)]
    directions = np.random.default_rng(7).standard_normal((len(steps), width), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    start = next(n for n, (before, _) in enumerate(steps) if before == ANYTHING)
    read = np.tile(directions[start], (len(vocabulary), 1))
    written = np.zeros_like(read)
    for (before, after), direction in zip(steps, directions, strict=True):
        if before != ANYTHING:
            read[vocabulary.word(before)] = direction
        written[vocabulary.control(after) if after == TURN_END else vocabulary.word(after)] += direction
    return {
        "token_embd.weight": read,
        "output_norm.weight": np.full(width, _SHARPNESS, np.float32),
        "output.weight": written,
    }


def _steps(cue: str, pieces: list[str]) -> Iterator[tuple[str, str]]:
    return zip([cue, *pieces], [*pieces, TURN_END], strict=True)
