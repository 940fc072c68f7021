"""Build the demo models: `python -m scripts.recipes DIR`.

Decides which models there are and whether a file must be built again. A file that the same recipe made is
left alone, and then nothing slow is imported.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from scripts.recipes.stamp import is_made_by, stamp

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Recipe:
    """A model that can be built.

    Attributes:
        name: Of the file, without `.gguf`, and of the model.
        purpose: For people.
        module: Holds the function of the same name that writes the file.
        by_default: Built when no name is asked for.
    """

    name: str
    purpose: str
    module: str
    by_default: bool = True

    @property
    def stamp(self) -> str:
        """What a file carries that this recipe made."""
        return stamp(self.module, self.name)

    def build(self, path: Path) -> None:
        """Write the file.

        Raises:
            ImportError: numpy or gguf is not installed.
            OSError: The file cannot be written.
        """
        write: Callable[..., None] = getattr(import_module(f"scripts.recipes.{self.module}"), self.module)
        write(path, name=self.name)


RECIPES = (
    Recipe("corral-demo", "chats in plain nonsense", "bigram"),
    Recipe("corral-embed", "turns text into vectors", "embedding"),
    Recipe("count", "counts to 2000, for testing a client", "counting", by_default=False),
)


def main(arguments: list[str] | None = None) -> int:
    """Build what is missing.

    Returns:
        0, or 2 with one sentence on stderr if it cannot be done.
    """
    wanted = _parser().parse_args(arguments)
    chosen = [
        recipe for recipe in RECIPES if (recipe.by_default if not wanted.only else recipe.name in wanted.only)
    ]
    try:
        wanted.directory.mkdir(parents=True, exist_ok=True)
        results = [_make(recipe, wanted.directory, quiet=wanted.json) for recipe in chosen]
    except ImportError as missing:
        print(f"{missing}: install the extra `demo` (pip install 'corral[demo]')", file=sys.stderr)
        return 2
    except OSError as refusal:
        print(f"cannot write models into {wanted.directory}: {refusal.strerror or refusal}", file=sys.stderr)
        return 2
    if wanted.json:
        print(json.dumps(results))
    return 0


def _parser() -> argparse.ArgumentParser:
    names = "; ".join(f"{recipe.name} {recipe.purpose}" for recipe in RECIPES)
    parser = argparse.ArgumentParser(
        prog="python -m scripts.recipes",
        description="Build the demo models as GGUF files. A file that is up to date is left alone.",
        epilog=f"Models: {names}.",
    )
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="where the files go; made if it is missing"
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        choices=[recipe.name for recipe in RECIPES],
        help="build this model and no other; may be given again",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of lines")
    return parser


def _make(recipe: Recipe, directory: Path, *, quiet: bool) -> dict[str, object]:
    path = directory / f"{recipe.name}.gguf"
    built = not is_made_by(recipe.stamp, path)
    began = time.monotonic()
    if built:
        recipe.build(path)
    size, took = path.stat().st_size, time.monotonic() - began
    if not quiet:
        state = f"built in {took:.1f} s" if built else "up to date"
        print(f"{path}: {recipe.purpose}, {size / _MEGABYTE:.1f} MB, {state}", flush=True)
    return {
        "name": recipe.name,
        "path": str(path),
        "built": built,
        "size_bytes": size,
        "seconds": round(took, 3),
    }


if __name__ == "__main__":
    # One thread is as fast for matrices this small, and on a busy machine several wait for each other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
