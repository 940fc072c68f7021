"""Whatever a body holds, the engine makes a job of it or refuses it: nothing else may happen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date
from typing import Any

import pytest

from supervisor.contract.names import ModelName
from supervisor.engines.embedded import anthropic, bodies, openai, responses_input, structs
from supervisor.engines.embedded.failures import ApiError
from supervisor.engines.embedded.options import check_options
from supervisor.engines.embedded.prompts import Setting, chat_job, check_think, generate_job
from supervisor.engines.embedded.structs import Struct
from supervisor.engines.embedded.worker import keep_alive_of
from supervisor.models.facts import ModelFacts
from supervisor.models.model import FileId, ModelFile, StoreEntry
from supervisor.models.modelfile import Modelfile
from supervisor.models.prompt_template import PromptTemplate
from tests.support.odd_bodies import BODIES, odd_bodies

TEMPLATE = (
    "{{ if .Suffix }}{{ .Prompt }}{{ .Suffix }}{{ end }}"
    "{{ range .Tools }}{{ . }}{{ .Function.Name }}{{ .Function.Parameters.Properties }}{{ end }}"
    "{{ range .Messages }}{{ .Role }}{{ .Content }}{{ .Thinking }}{{ .ToolName }}"
    "{{ range .ToolCalls }}{{ . }}{{ .Function.Arguments }}{{ end }}{{ end }}"
)
FACTS = ModelFacts("llama", 1, "F16", 4096, 100, "{{ messages }}", embeds=False, info={})
STORED = StoreEntry(
    digest="d",
    weights="sha256:d",
    size_bytes=1,
    modified_ns=1,
    modelfile=Modelfile(),
    template=PromptTemplate.parse(TEMPLATE),
)
MODELS = {
    "template of the file": ModelFile(ModelName.parse("m"), FileId("/m.gguf", 1, 1), FACTS),
    "template of a store": ModelFile(ModelName.parse("m"), FileId("/m.gguf", 1, 1), FACTS, STORED),
}
TRANSLATIONS: dict[str, tuple[Struct, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "/api/chat": (structs.CHAT, dict),
    "/api/generate": (structs.GENERATE, dict),
    "/v1/chat/completions": (structs.OPENAI_CHAT, openai.to_chat),
    "/v1/completions": (structs.OPENAI_COMPLETION, openai.to_generate),
    "/v1/embeddings": (structs.OPENAI_EMBED, openai.to_embed),
    "/v1/responses": (structs.RESPONSES, responses_input.to_chat),
    "/v1/messages": (structs.MESSAGES, anthropic.to_chat),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("route", TRANSLATIONS)
def test_any_value_anywhere_in_a_body_is_read_or_refused(route: str, model: ModelFile) -> None:
    """Behind the check of a body no type has to be doubted; none made a traceback and a 500 of it."""
    struct, to_native = TRANSLATIONS[route]
    for _, raw in odd_bodies(BODIES[route]):
        with suppress(ApiError):
            body = to_native(bodies.decode(raw, struct))
            if "messages" in body or "prompt" in body:
                _make_job(body, model)


def _make_job(body: Mapping[str, Any], model: ModelFile) -> None:
    keep_alive_of(body)
    check_think(body, model)
    options = check_options(body.get("options", {}))
    make = chat_job if "messages" in body else generate_job
    job = make(body, options, Setting(model=model, context_length=64, today=date(2025, 2, 1)))
    json.dumps(job.request(), allow_nan=False).encode()
