from __future__ import annotations

import pytest

from gateway.store.modelfile import ModelfileError, parse_modelfile

WHOLE = '''
# a comment
FROM ./weights.gguf
from ./projector.gguf
ADAPTER ./adapter.gguf
PARAMETER num_ctx 4096
PARAMETER temperature 0.5
PARAMETER use_mmap false
PARAMETER stop "<|a|>"
PARAMETER stop <|b|>
TEMPLATE """{{ .System }}
{{ .Prompt }}"""
SYSTEM You are "it".
MESSAGE user "hello"
MESSAGE assistant hi there
LICENSE """one"""
LICENSE two
'''


def test_every_instruction_becomes_the_field_that_the_server_takes() -> None:
    """It is the command that reads the file."""
    parsed = parse_modelfile(WHOLE)
    assert parsed.sources == ["./weights.gguf", "./projector.gguf"]
    assert parsed.adapters == ["./adapter.gguf"]
    assert parsed.fields == {
        "parameters": {"num_ctx": 4096, "temperature": 0.5, "use_mmap": False, "stop": ["<|a|>", "<|b|>"]},
        "template": "{{ .System }}\n{{ .Prompt }}",
        "system": 'You are "it".',
        "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi there"}],
        "license": ["one", "two"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SYSTEM x", "no FROM line"),
        ("FROM", "line 1: FROM needs a value"),
        ("FROM x\nBANANA y", "line 2: unknown instruction BANANA"),
        ("FROM x\nPARAMETER num_ctx many", "line 2: PARAMETER num_ctx must be a number, not 'many'"),
        ("FROM x\nPARAMETER use_mmap 1", "line 2: PARAMETER use_mmap must be true or false, not '1'"),
        ("FROM x\nPARAMETER warmth 1", "line 2: unknown parameter 'warmth'"),
        ("FROM x\nMESSAGE nobody x", "line 2: MESSAGE needs a role"),
        ('FROM x\nSYSTEM """never', "line 2: the text in triple quotes has no end"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, said: str) -> None:
    """Nothing is ignored in silence."""
    with pytest.raises(ModelfileError, match=said):
        parse_modelfile(text)
