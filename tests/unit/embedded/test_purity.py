"""Which modules of the engine touch nothing: no clock, no socket, no process, no environment."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PURE = (
    *(
        f"supervisor/engines/embedded/{name}.py"
        for name in (
            "anthropic",
            "answers",
            "bodies",
            "events",
            "failures",
            "frames",
            "openai",
            "options",
            "prompts",
            "rendering",
            "residency",
            "responses",
            "responses_input",
            "settings",
            "sse",
            "store_bodies",
            "stops",
            "structs",
        )
    ),
    *(
        f"supervisor/models/{name}.py"
        for name in (
            "creation",
            "facts",
            "gguf",
            "gotemplate/evaluate",
            "gotemplate/functions",
            "gotemplate/lexer",
            "gotemplate/nodes",
            "gotemplate/parser",
            "gotemplate/values",
            "manifest",
            "model",
            "modelfile",
            "prompt_tags",
            "prompt_template",
            "prompt_values",
            "progress",
            "registry",
            "registry_plan",
            "tensors",
        )
    ),
)
IMPURE = {
    "aiohttp",
    "asyncio",
    "logging",
    "os",
    "pathlib",
    "random",
    "socket",
    "structlog",
    "subprocess",
    "time",
}


@pytest.mark.parametrize("path", PURE)
def test_a_pure_module_imports_nothing_that_acts(path: str) -> None:
    """Time and events are its arguments, effects its results."""
    imported = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    assert not imported & IMPURE
