"""Go templates: what is understood, and that the rest is refused by name."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.models.gotemplate.evaluate import execute
from supervisor.models.gotemplate.functions import BUILTINS
from supervisor.models.gotemplate.lexer import TemplateError
from supervisor.models.gotemplate.parser import parse
from supervisor.models.prompt_tags import ANY_OBJECT, thinking_marks, tool_mark
from supervisor.models.prompt_template import PromptTemplate, Turn

TODAY = date(2025, 3, 1)


def rendered(source: str, **data: object) -> str:
    """Return what a template makes of values."""
    return execute(parse(source, BUILTINS), data, BUILTINS)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("{{ html .A }}", 'function "html" not defined'),
        ("a\nb {{ if }}", "line 2: missing value for if"),
        ("{{ if .A }}x", "has no {{end}}"),
        ("{{ $x }}", "undefined variable $x"),
        ('{{ printf "%x" 1 }}', "%x of 1"),
        ('{{ printf "%d" "a" }}', "%d of a"),
        ("{{ .A.B }}", "can't evaluate field B"),
        ('{{ "\\q" }}', "unknown escape"),
        ("{{ .A", "unclosed action"),
        ("{{ .A ? }}", "unexpected '?'"),
        ("{{ break }}", "outside {{range}}"),
        ("{{ len 1 }}", "len of 1"),
        ("{{ range true }}{{ end }}", "can't iterate over true"),
        ('{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}', "calls itself too often"),
        ("{{ slice `abc` 2 1 }}", "out of range"),
        ("{{ " + "(" * 300 + ".A" + ")" * 300 + " }}", "nested"),
        ("{{ eq 1 `a` }}", "incompatible types"),
        ("{{ not }}", "arguments for not"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(source: str, named: str) -> None:
    """A prompt is never made by guess."""
    with pytest.raises(TemplateError) as caught:
        rendered(source, A="text")
    assert named in str(caught.value)


@given(st.text(alphabet="{}-.$ |()\"`'ab1=:,/*end\nif range"))
def test_no_text_ends_in_anything_but_a_template_or_a_refusal(source: str) -> None:
    """Templates come from strangers."""
    try:
        rendered(source)
    except TemplateError:
        return


def test_days_are_arguments() -> None:
    """A rendering depends on nothing else."""
    template = PromptTemplate.parse("{{ currentDate }} {{ yesterdayDate }}{{ range .Messages }}{{ end }}")
    assert template.render(Turn(today=TODAY)) == "2025-03-01 2025-02-28"


def test_thinking_marks_are_the_texts_around_thinking() -> None:
    """Only inside a range over the messages."""
    inside = "{{ range .Messages }}{{ if .Thinking }}\n<t> {{ .Thinking }}</t>\n{{ end }}{{ end }}"
    assert thinking_marks(PromptTemplate.parse(inside).tree) == ("<t>", "</t>")
    outside = "{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ .Response }}"
    assert thinking_marks(PromptTemplate.parse(outside).tree) == ("", "")


@pytest.mark.parametrize(
    ("inner", "mark"),
    [
        ("<tool_call>\n{{ range .ToolCalls }}{}{{ end }}", "<tool_call>"),
        ('[CALLS] [{{ range .ToolCalls }}{"name": 1}{{ end }}]', "[CALLS] ["),
        ('{{ range .ToolCalls }}{"name": "{{ .Function.Name }}"}{{ end }}', ANY_OBJECT),
        ("{{ json .ToolCalls }}", ANY_OBJECT),
    ],
)
def test_the_mark_before_tool_calls_is_the_first_text_under_its_condition(inner: str, mark: str) -> None:
    """A brace belongs to the call itself; without a mark each object may be one."""
    source = f"{{{{ range .Messages }}}}{{{{ if .ToolCalls }}}}{inner}{{{{ end }}}}{{{{ end }}}}"
    assert tool_mark(PromptTemplate.parse(source).tree) == mark
