"""Models for tests: small GGUF files, built once per recipe and copied into the directory that a test names.

Files that were built lie in `.cache/models` of the repository, under a name that holds a hash of the recipe
and its parameters. A test gets a copy, so it may change, cut or delete what it got.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from scripts.recipes import bigram, counting, embedding, reciting
from scripts.recipes.llama_gguf import CHAT_TEMPLATE, Shape
from scripts.recipes.stamp import stamp

TOOL_CALL: Final = {"name": "add", "arguments": {"a": 2, "b": 3}}
TOOL_ANSWER: Final = "The sum is 5."
_CALL_CUE: Final = " call"
_TOOL_TEMPLATE: Final = (
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n<tools>' }}"
    "{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}"
    "{{ '\n</tools>\nCall them within tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}'
    "\n</tool_call><|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] or '') }}"
    "{% for call in m['tool_calls'] or [] %}"
    "{{ '<tool_call>\n{\"name\": \"' + call['function']['name'] + '\", \"arguments\": '"
    " + (call['function']['arguments'] | tojson) + '}\n</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    f"{{% if tools and messages[-1]['role'] != 'tool' %}}{{{{ '{_CALL_CUE}' }}}}{{% endif %}}{{% endif %}}"
)
_TOOL_TEMPLATE_OF_OLLAMA: Final = (
    "{{ if .Tools }}<|im_start|>system\n# Tools\n<tools>{{ range .Tools }}\n{{ . }}{{ end }}\n</tools>\n"
    'Call them within tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call><|im_end|>\n{{ end }}"
    "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
    "<|im_start|>{{ .Role }}\n{{ .Content }}{{ if .ToolCalls }}{{ range .ToolCalls }}<tool_call>\n"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}\n</tool_call>{{ end }}{{ end }}'
    "<|im_end|>\n{{ if $last }}<|im_start|>assistant\n"
    f'{{{{ if and $.Tools (ne .Role "tool") }}}}{_CALL_CUE}{{{{ end }}}}{{{{ end }}}}{{{{ end }}}}'
)
_CACHE = Path(__file__).parents[2] / ".cache" / "models"
_TYPE_BYTES = 4
_POOLING_RANK = 4


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


def reciting_model(
    directory: Path, *, name: str, says: str, after: Mapping[str, str] | None = None, template: str = ""
) -> Path:
    """`directory`/`name`.gguf, which says one text, whatever it is asked.

    Args:
        directory: Created if it is missing.
        name: Name of the file without `.gguf`.
        says: The text.
        after: Other texts, each by the word at the end of the prompt after which it is said.
        template: In Jinja; must write those words. Without one it is that of all models here.
    """
    texts = {reciting.ANYTHING: says, **(after or {})}
    template = template or CHAT_TEMPLATE
    recipe = reciting.recipe_of(name=name, texts=texts, template=template)
    return _copy_of(
        directory / f"{name}.gguf",
        recipe,
        lambda path: reciting.reciting(path, name=name, texts=texts, template=template),
    )


def calling_model(directory: Path, *, name: str = "caller") -> Path:
    """`directory`/`name`.gguf, which makes `TOOL_CALL` if it has tools and no result yet, else `TOOL_ANSWER`.

    Beside it lies its template as Ollama writes templates (see `ollama_store.import_models`).
    """
    call = f"<tool_call>\n{json.dumps(TOOL_CALL)}\n</tool_call>"
    path = reciting_model(
        directory, name=name, says=TOOL_ANSWER, after={_CALL_CUE: call}, template=_TOOL_TEMPLATE
    )
    path.with_suffix(".template").write_text(_TOOL_TEMPLATE_OF_OLLAMA)
    return path


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


def ranking_model(directory: Path, *, name: str = "rank") -> Path:
    """`directory`/`name`.gguf, a reranker: a document whose last word is none of the text scores higher."""
    path = embedding_model(directory, name=name)
    data, key = path.read_bytes(), b"llama.pooling_type"
    place = data.index(key) + len(key) + _TYPE_BYTES
    path.write_bytes(data[:place] + _POOLING_RANK.to_bytes(4, "little") + data[place + 4 :])
    return path
