"""Models for tests: small GGUF files, built once per recipe and copied into the directory that a test names.

Files that were built lie in `.cache/models` of the repository, under a name that holds a hash of the recipe
and its parameters. A test gets a copy, so it may change, cut or delete what it got.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.recipes import bigram, counting, embedding
from scripts.recipes.llama_gguf import Shape
from scripts.recipes.stamp import stamp

_CACHE = Path(__file__).parents[2] / ".cache" / "models"


def _copy_of(path: Path, recipe: str, build: Callable[[Path], None]) -> Path:
    cached = _CACHE / f"{recipe[:32]}.gguf"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        build(cached)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cached, path)
    return path


def counting_model(directory: Path, *, name: str = "count", words: int = 2000, **shape: int) -> Path:
    """`directory`/`name`.gguf, whose greedy answer is `1 2 3 … words` and that goes on from any number.

    Args:
        directory: Created if it is missing.
        name: Name of the file without `.gguf`, and `general.name` inside it.
        words: The last number.
        shape: Fields of `scripts.recipes.llama_gguf.Shape` that are to differ from its defaults.
    """
    sizes = Shape(**shape)
    recipe = counting.recipe_of(name=name, words=words, shape=sizes)
    return _copy_of(
        directory / f"{name}.gguf",
        recipe,
        lambda path: counting.counting(path, name=name, words=words, shape=sizes),
    )


def heavy_model(directory: Path, *, name: str = "heavy") -> Path:
    """`directory`/`name`.gguf: the counting model with more than 5 ms of one core for each token."""
    recipe = counting.recipe_of(name=name, words=counting.WORDS, shape=counting.HEAVY)
    return _copy_of(directory / f"{name}.gguf", recipe, lambda path: counting.heavy_counting(path, name=name))


def demo_chat_model(directory: Path, *, name: str = "demo") -> Path:
    """`directory`/`name`.gguf, which answers in nonsense sentences that depend on the seed."""
    recipe = bigram.recipe_of(name=name)
    return _copy_of(directory / f"{name}.gguf", recipe, lambda path: bigram.bigram(path, name=name))


def embedding_model(directory: Path, *, name: str = "embed") -> Path:
    """`directory`/`name`.gguf, whose header has a pooling type and whose vectors mean something."""
    recipe = embedding.recipe_of(name=name)
    return _copy_of(directory / f"{name}.gguf", recipe, lambda path: embedding.embedding(path, name=name))


def corrupt_model(directory: Path, *, name: str = "corrupt") -> Path:
    """`directory`/`name`.gguf: a good header, and tensors that end half-way."""
    path = counting_model(directory, name=name, words=100)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    return path


def unsupported_model(directory: Path, *, name: str = "unsupported") -> Path:
    """`directory`/`name`.gguf: sound in itself, but of an architecture that no engine knows."""
    return _copy_of(
        directory / f"{name}.gguf",
        stamp("unsupported", name),
        lambda path: counting.counting(path, name=name, words=100, architecture="corralunknown"),
    )
