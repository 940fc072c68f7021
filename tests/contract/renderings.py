"""Templates of our own and conversations, and what a real Ollama made of them (`recordings/renderings.json`).

    CORRAL_TEST_OLLAMA=/path/to/ollama python -m tests.contract.renderings

records anew: the server makes a model with each template and is asked to render only.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from supervisor.models.gotemplate.lexer import TemplateError
from supervisor.models.prompt_tags import thinking_marks
from supervisor.models.prompt_template import PromptTemplate, Turn
from tests.support.models import counting_model
from tests.support.real_ollama import MISSING, RealOllama, binary, real_ollama

RECORDING: Final = Path(__file__).parent / "recordings" / "renderings.json"
REFUSED: Final = "refused"
"""Stands for a template or a rendering that the server answers with an error."""

TEMPLATES: Final = {
    "legacy": "{{ if .System }}<sys>{{ .System }}</sys>\n"
    "{{ end }}{{ if .Prompt }}<u>{{ .Prompt }}</u>\n"
    "{{ end }}<a>{{ .Response }}</a>\n",
    "legacy without response": "{{ .System }} USER: {{ .Prompt }} ASSISTANT: ",
    "legacy response in else": "{{ if .System }}S {{ .System }}: {{ .Response }} after {{ else }}P {{ "
    ".Prompt }}: {{ .Response }} tail {{ end }}end",
    "default": "{{ .Prompt }}",
    "tools json": "{{ range .Messages }}[{{ .Role }}] {{ .Content }}\n"
    '{{ range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ '
    '.Function.Arguments }}, "i": {{ .Function.Index }}}</tool_call>{{ end }}{{ end }}{{ '
    ".Tools }}",
    "tool printed": "{{ range .Tools }}{{ . }}\n"
    "{{ .Function }}\n"
    "{{ json . }}\n"
    "{{ json .Function }}\n"
    "{{ .Type }}{{ end }}{{ range .Messages }}{{ .Content }}{{ end }}",
    "tool properties": "{{ range .Tools }}{{ .Function.Parameters.Properties }}|{{ "
    ".Function.Parameters.Required }}|{{ range $n, $p := .Function.Parameters.Properties "
    "}}{{ $n }}: {{ $p.Type }} {{ toTypeScriptType $p }} {{ $p.Description }} {{ $p.Enum "
    "}} {{ len $p.Type }};{{ end }}{{ end }}{{ range .Messages }}{{ .Role }}{{ end }}",
    "messages printed": "{{ range .Messages }}{{ . }}\n{{ json . }}\n{{ end }}{{ json .Messages }}",
    "index and last": "{{ $last := len .Messages }}{{ range $i, $m := .Messages }}{{ if eq (len (slice "
    "$.Messages $i)) 1 }}LAST {{ end }}{{ $i }}:{{ $m.Role }}={{ $m.Content }} {{ end "
    "}}of {{ $last }}",
    "compare": "{{ range $i, $m := .Messages }}{{ if and (gt $i 0) (lt $i 3) }}mid{{ else if ge $i 3 "
    '}}late{{ else }}first{{ end }}{{ if or (eq .Role "user" "tool") (ne .Content "hi there") '
    "}}+{{ end }}{{ if not .Thinking }}-{{ end }}{{ if le $i 1 }}~{{ end }}{{ end }}",
    "trim": "  a  \n"
    " {{- /* gone */ -}} \n"
    " b {{- range .Messages -}} \n"
    ' {{ .Role }} {{- "x" -}} {{ end -}}  \n'
    " c",
    "strings": '{{ "a\\n\\t\\"q\\"\\u00e9\\x41\\101" }}{{ `raw\\n` }}{{ \'x\' }}{{ 1.5 }}{{ 3.0 }}{{ 0x10 '
    '}}{{ 1e3 }}{{ -4 }}{{ true }}{{ print 1 2 "a" 3 true }}{{ println "x" 1 }}{{ printf '
    '"%5d|%-5d|%05d|%s|%q|%v|%t|%%|%.2f" 42 42 42 "s" "q\\"<" .Tools true 1.005 }}',
    "printf v": '{{ printf "%d %s %v %q %-6s|%6s|%.2s" 1 "b" true "c<d>é" "e" "f" "ghi" }}{{ range '
    '.Messages }}{{ printf "%s: %s" .Role .Content }}{{ end }}',
    "define": '{{ define "turn" }}<{{ .Role }}>{{ .Content }}{{ end }}{{ range .Messages }}{{ template '
    '"turn" . }}{{ end }}{{ block "tail" .System }}[{{ . }}]{{ end }}',
    "variables": '{{ $s := "" }}{{ range .Messages }}{{ if eq .Role "system" }}{{ $s = .Content }}{{ else '
    '}}{{ if $s }}{{ $s }}|{{ $s = "" }}{{ end }}{{ .Content }};{{ end }}{{ end }}{{ with $x '
    ":= .System }}{{ $x }}{{ . }}{{ else }}none{{ end }}",
    "with else with": "{{ with .Nothing }}a{{ else with .System }}b{{ . }}{{ else }}c{{ end }}{{ range "
    ".Messages }}.{{ end }}",
    "break and continue": '{{ range $i, $m := .Messages }}{{ if eq .Role "system" }}{{ continue }}{{ end '
    "}}{{ .Content }}{{ if gt $i 1 }}{{ break }}{{ end }},{{ end }}",
    "range else": "{{ range .Tools }}T{{ else }}no tools{{ end }}{{ range $.Messages }}{{ range .ToolCalls "
    "}}C{{ else }}-{{ end }}{{ end }}",
    "missing": "{{ .Nothing }}|{{ .Prompt }}|{{ if .Nothing }}x{{ end }}|{{ .Response }}|{{ range .Messages "
    "}}m{{ end }}{{ if eq .Nothing nil }}n{{ end }}",
    "missing 2": "{{ range .Messages }}{{ .Nothing }}{{ end }}",
    "missing 3": "{{ .Nothing.More }}{{ range .Messages }}{{ end }}",
    "pipelines": '{{ range .Messages }}{{ .Content | len | printf "%d bytes " }}{{ .Content | printf '
    '"%s-%s" .Role }}{{ (index $.Messages 0).Role }}{{ end }}{{ len .Messages | eq 1 }}',
    "index": '{{ index .Messages 0 | json }}{{ (index .Messages 0).Content }}{{ slice "abcdef" 1 3 }}{{ '
    'index "abc" 1 }}{{ slice .System 0 }}',
    "arguments": "{{ range .Messages }}{{ range .ToolCalls }}{{ range $k, $v := .Function.Arguments }}{{ $k "
    '}}={{ $v }}/{{ json $v }};{{ end }}{{ index .Function.Arguments "city" }}{{ '
    ".Function.Arguments.city }}{{ .Function.Arguments.none }}{{ json .Function.Arguments }}{{ "
    "end }}{{ end }}",
    "think": "{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }}{{ if and .IsThinkSet (not .Think) "
    "}}/no_think{{ end }}{{ range .Messages }}{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ "
    "end }}{{ .Content }}{{ end }}",
    "suffix": "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>{{ else }}{{ .Prompt }}{{ end }}",
    "range int": "{{ range 3 }}{{ . }}{{ end }}{{ range $i := 2 }}{{ $i }}{{ end }}{{ range .Messages }}{{ "
    "end }}",
    "and or values": '{{ and 1 0 2 }}{{ or 0 "" "x" }}{{ or .Nothing .System "d" }}{{ and .System .Messages '
    "| len }}{{ not 0 }}{{ range .Messages }}{{ end }}",
    "bad function": "{{ nofunc .Messages }}",
    "bad end": "{{ if .System }}x",
    "bad variable": "{{ $x }}",
    "bad else": "{{ else }}",
    "bad comment": "{{ /* a */ }}{{ range .Messages }}{{ end }}",
    "bad eq": "{{ range .Messages }}{{ if eq .Role 1 }}x{{ end }}{{ end }}",
    "bad nodot": "{{ range .Messages }}{{ .Role.Name }}{{ end }}",
    "bad nest": "{{ .Messages | .System }}",
    "bad number": "{{ 3x }}",
    "bad space": '{{.Messages}}{{ "a""b" }}',
    "tight": "{{range .Messages}}{{.Role}}:{{.Content}}{{end}}{{3}}{{- 3}}{{3 -}} x",
    "crlf": "a\r\n{{- range .Messages }}\r\n{{ .Role }}\r\n{{ end }}",
    "or tools": "{{ if or .System .Tools }}<s>{{ if .System }}{{ .System }}{{ end }}{{ if .Tools }} {{ "
    'range $.Tools }}{"type": "function", "function": {{ .Function }}}\n'
    '{{ end }}{{ end }}</s>{{ end }}{{ range .Messages }}{{ if eq .Role "tool" }}<r>{{ '
    ".ToolName }}:{{ .Content }}</r>{{ else }}{{ .Content }}{{ end }}{{ end }}",
    "dot forms": "{{ with .Messages }}{{ range . }}{{ (.).Role }}{{ $ | len }}{{ end }}{{ end }}{{ "
    "($).System }}",
    "parens": '{{ range .Messages }}{{ if (and (eq .Role "user") (not (eq .Content "x"))) }}y{{ end }}{{ '
    "end }}{{ ((((.System)))) }}",
    "comment only": "{{- /* c */ -}}{{ .Prompt }}",
    "text only": "just text",
    "printed map": "{{ . }}",
    "lt mixed": "{{ lt 1 2.5 }}{{ range .Messages }}{{ end }}",
    "eq mixed": "{{ eq 1 1.0 }}{{ range .Messages }}{{ end }}",
    "block twice": '{{ define "a" }}1{{ end }}{{ define "a" }}2{{ end }}{{ template "a" . }}{{ range '
    ".Messages }}{{ end }}",
    "undefined template": '{{ template "zz" . }}{{ range .Messages }}{{ end }}',
    "bare template": '{{ define "a" }}1{{ end }}{{ template "a" }}{{ range .Messages }}{{ end }}',
    "assign in range": "{{ $n := 0 }}{{ range $i, $m := .Messages }}{{ $n = $i }}{{ end }}{{ $n }}",
    "nested vars": "{{ $a := 1 }}{{ if true }}{{ $a := 2 }}{{ $a }}{{ end }}{{ $a }}{{ range .Messages }}{{ "
    "end }}",
    "range assign": "{{ $i := 9 }}{{ $m := 1 }}{{ range $i, $m = .Messages }}{{ end }}{{ $i }}",
    "field of call": "{{ (index .Messages 0).Role }}{{ (len .Messages) }}",
    "nil cmd": "{{ nil }}",
    "if nil": "{{ if nil }}x{{ end }}{{ range .Messages }}{{ end }}",
    "string dot": '{{ "a".B }}{{ range .Messages }}{{ end }}',
    "bool compare": "{{ eq true .IsThinkSet }}{{ range .Messages }}{{ end }}",
    "unicode field": "{{ .Ünknown }}{{ range .Messages }}{{ .Content }}{{ len .Content }}{{ end }}",
    "double colon": "{{ $a, $b := .Messages }}",
}
"""By what they show."""

_USER: Final = {"role": "user", "content": "hello"}
_SYSTEM: Final = {"role": "system", "content": "be nice"}
_ANSWER: Final = {"role": "assistant", "content": "hi there"}
_ARGUMENTS: Final = {"unit": "c", "city": "Paris", "n": 3, "x": 1.5}
_CALL: Final = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "get_weather", "arguments": _ARGUMENTS}}],
}
_RESULT: Final = {"role": "tool", "content": "12 degrees", "tool_name": "get_weather"}
_WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather <now> & then",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {
                "city": {"type": "string", "description": "The city"},
                "unit": {"type": ["string", "null"], "enum": ["c", "f"]},
                "n": {"type": "integer"},
            },
        },
    },
}
_NOW: Final = {"type": "function", "function": {"name": "now"}}
_DEEP_PROPERTIES: Final = {
    "o": {
        "type": "object",
        "properties": {"b": {"type": "string"}, "a": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["b"],
    },
    "l": {"type": "array", "items": {"type": "string"}},
}
_DEEP: Final = {
    "type": "function",
    "function": {
        "name": "deep",
        "parameters": {"type": "object", "$defs": {"z": 1, "a": 2}, "properties": _DEEP_PROPERTIES},
    },
}

TURNS: Final[dict[str, dict[str, Any]]] = {
    "user": {"messages": [_USER]},
    "system": {"messages": [_SYSTEM, _USER]},
    "turns": {"messages": [_SYSTEM, _USER, _ANSWER, {"role": "user", "content": "<b>&\nmore ü"}]},
    "merged": {
        "messages": [_SYSTEM, {"role": "system", "content": "and short"}, _USER, _USER, _ANSWER],
    },
    "late system": {"messages": [_USER, _ANSWER, _SYSTEM, _USER]},
    "tools": {"messages": [_USER], "tools": [_WEATHER]},
    "tool round": {"messages": [_SYSTEM, _USER, _CALL, _RESULT], "tools": [_WEATHER, _WEATHER]},
    "tool rounds": {"messages": [_USER, _CALL, _RESULT, _RESULT, _ANSWER, _USER]},
    "deep tools": {"messages": [_USER], "tools": [_NOW, _DEEP]},
    "no thoughts": {"messages": [_USER], "think": False},
    "thoughts": {"messages": [_USER, {"role": "assistant", "content": "x", "thinking": "hm"}, _USER]},
}


def told(template: PromptTemplate, turn: dict[str, Any]) -> dict[str, Any]:
    """Return what is sent for a turn: no tools to a template without a place for them."""
    return {name: value for name, value in turn.items() if name != "tools" or "tools" in template.names}


def rendered(source: str, turn: dict[str, Any], today: date) -> str:
    """Return our rendering of a turn, or `REFUSED`."""
    try:
        template = PromptTemplate.parse(source)
        body = told(template, turn)
        return template.render(
            Turn(
                messages=tuple(body["messages"]),
                tools=tuple(body["tools"]) if "tools" in body else None,
                think=body.get("think", True if thinking_marks(template.tree)[0] else None),
                today=today,
            )
        )
    except TemplateError:
        return REFUSED


def asked(server: RealOllama, source: str) -> dict[str, str]:
    """Return the server's renderings of all turns."""
    status, _ = server.derive("m", "count", template=source)
    if status != 200:
        return dict.fromkeys(TURNS, REFUSED)
    template = PromptTemplate.parse(source)
    return {name: _rendering(server, told(template, turn)) for name, turn in TURNS.items()}


def _rendering(server: RealOllama, body: dict[str, Any]) -> str:
    status, answer = server.post("/api/chat", model="m", _debug_render_only=True, **body)
    return str(answer["_debug_info"]["rendered_template"]) if status == 200 else REFUSED


def main() -> int:
    """Record; return an exit code."""
    named = binary()
    if named is None:
        sys.stderr.write(MISSING + "\n")
        return 2
    with tempfile.TemporaryDirectory() as home, real_ollama(named, Path(home)) as server:
        server.create("count", counting_model(Path(home)))
        found = {name: asked(server, source) for name, source in TEMPLATES.items()}
    RECORDING.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return 0


def today() -> date:
    """Return the day that the server, on this machine, takes for today."""
    return datetime.now(UTC).astimezone().date()


if __name__ == "__main__":
    sys.exit(main())
