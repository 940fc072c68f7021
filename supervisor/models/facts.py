"""What a GGUF header means: family, size, quantization, trained context, what the model can do.

Decides how header values are told to clients, in Ollama's terms. Pure; knows no files.

Source: Ollama 0.24 (`fs/ggml/type.go`, `format/format.go`, `server/images.go`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.models.gguf import Header, Value

_FILE_TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
_POOLING_RANK: Final = 4
_BILLION: Final = 10**9
_MILLION: Final = 10**6
_THOUSAND: Final = 10**3


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model, as its file describes it."""

    family: str
    parameter_count: int
    quantization: str
    context_length: int
    """Tokens it was trained for; 0 when the file does not say."""
    vocabulary_size: int
    chat_template: str
    embeds: bool
    """It is an embedding model: it answers embed requests and no others."""
    info: Mapping[str, Value]
    """The header's values, for /api/show and for estimates."""

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it can do, in Ollama's words."""
        if self.embeds:
            return ("embedding",)
        template = self.chat_template
        tools = ("tools",) if "tools" in template else ()
        thinking = ("thinking",) if "<think>" in template or "enable_thinking" in template else ()
        return ("completion", *tools, *thinking)

    @property
    def ranks(self) -> bool:
        """It tells how well two texts fit together: a reranker."""
        return self.info.get(f"{self.family}.pooling_type") == _POOLING_RANK

    @property
    def details(self) -> dict[str, object]:
        """The `details` object of tags, ps and show."""
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": human_number(self.parameter_count),
            "quantization_level": self.quantization,
        }


NOTHING_KNOWN: Final = ModelFacts("", 0, "unknown", 0, 0, "", embeds=False, info={})
"""For a file whose header cannot be read: it is listed, and loading it gives the engine's reason."""


def facts_of(header: Header) -> ModelFacts:
    """Return what the header says; a value that is missing is empty or 0."""
    family = str(header.values.get("general.architecture", ""))
    context = header.values.get(f"{family}.context_length")
    file_type = header.values.get("general.file_type")
    template = header.values.get("tokenizer.chat_template")
    return ModelFacts(
        family=family,
        parameter_count=header.parameter_count,
        quantization=_FILE_TYPES.get(file_type, "unknown") if isinstance(file_type, int) else "unknown",
        context_length=context if isinstance(context, int) else 0,
        vocabulary_size=header.array_lengths.get("tokenizer.ggml.tokens", 0),
        chat_template=template if isinstance(template, str) else "",
        embeds=f"{family}.pooling_type" in header.values,
        info={**header.values, "general.parameter_count": header.parameter_count},
    )


def human_number(count: int) -> str:
    """Return `1.2B`, `4.20M`, `13K`: how Ollama writes a model's size."""
    for unit, letter, digits in ((_BILLION, "B", 1), (_MILLION, "M", 2)):
        if count >= unit:
            return f"{count / unit:.{0 if count % unit == 0 else digits}f}{letter}"
    return f"{count / _THOUSAND:.0f}K" if count >= _THOUSAND else str(count)
