"""The objects of the described API: what clients send and what they get, field by field.

Used for the OpenAPI description only: requests are read by the surfaces and answers written by the workers,
so nothing here decides anything. Fields that are not named may come as well, on either side.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

NAME: Final = (
    r"^(([A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}/)?[A-Za-z0-9_][A-Za-z0-9_-]{0,79}/)?"
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,79})?$"
)
"""What a model's name can be."""

Name = Annotated[
    str,
    Field(description="`[host/][namespace/]model[:tag]`, or an alias", examples=["llama3.2"], pattern=NAME),
]
_DURATION: Final = r"^-?(0|([0-9]{1,6}(\.[0-9]{1,6})?(ns|us|ms|s|m|h)){1,3})$"
KeepAlive = Annotated[
    float | Annotated[str, Field(pattern=_DURATION)] | None,
    Field(description="seconds, or a duration such as `5m`; negative is for ever", examples=["5m", 300]),
]
Options = Annotated[
    dict[str, Any] | None,
    Field(description="sampling and runner options, as Ollama names them", examples=[{"num_predict": 16}]),
]
Format = Annotated[
    Literal["", "json"] | dict[str, Any] | None, Field(description="`json`, or a JSON schema of the answer")
]
Think = Annotated[bool | Literal["low", "medium", "high"] | None, Field(description="whether to think aloud")]
Stream = Annotated[bool | None, Field(description="one JSON object a line, true by default")]
Base64 = Annotated[str, Field(json_schema_extra={"format": "byte"})]
Nanoseconds = Annotated[int, Field(ge=0, description="nanoseconds")]


class Shape(BaseModel):
    """What all objects have in common."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True, protected_namespaces=())


# Inference ------------------------------------------------------------------------------


class GenerateRequest(Shape):
    """One prompt; without one the model is loaded, or unloaded with `keep_alive` 0."""

    model: Name
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    """What an earlier answer returned under this name."""
    images: list[Base64] | None = None
    format: Format = None
    raw: bool | None = None
    think: Think = None
    stream: Stream = None
    keep_alive: KeepAlive = None
    options: Options = None


class ToolFunction(Shape):
    """What a model wants to call."""

    name: str
    arguments: dict[str, Any] = {}


class ToolCall(Shape):
    """One call."""

    function: ToolFunction


class Message(Shape):
    """One turn of a conversation."""

    role: str = Field(examples=["user"])
    content: str = ""
    thinking: str | None = None
    images: list[Base64] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None


class ChatRequest(Shape):
    """A conversation."""

    model: Name
    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None
    format: Format = None
    think: Think = None
    stream: Stream = None
    keep_alive: KeepAlive = None
    options: Options = None


class EmbedRequest(Shape):
    """Texts to embed."""

    model: Name
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: KeepAlive = None
    options: Options = None


class EmbeddingsRequest(Shape):
    """One text to embed; superseded by /api/embed."""

    model: Name
    prompt: str | None = None
    keep_alive: KeepAlive = None
    options: Options = None


class Frame(Shape):
    """A piece of an answer, or the whole one; the last has `done` true and the counts."""

    model: str
    created_at: AwareDatetime
    done: bool
    done_reason: str | None = None
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: Nanoseconds = 0
    eval_count: int = 0
    eval_duration: Nanoseconds = 0


class GenerateFrame(Frame):
    """Of /api/generate."""

    response: str
    thinking: str | None = None
    context: list[int] | None = None


class ChatFrame(Frame):
    """Of /api/chat."""

    message: Message


class EmbedAnswer(Shape):
    """A vector for each text."""

    model: str
    embeddings: list[list[float]]
    total_duration: Nanoseconds = 0
    load_duration: Nanoseconds = 0
    prompt_eval_count: int = 0


class EmbeddingsAnswer(Shape):
    """One vector; empty without a prompt."""

    embedding: list[float]


# Lists ----------------------------------------------------------------------------------


class Details(Shape):
    """What kind of model it is."""

    parent_model: str = ""
    format: str = ""
    family: str = ""
    families: list[str] | None = None
    parameter_size: str = ""
    quantization_level: str = ""


class TagsModel(Shape):
    """A model that can be asked for."""

    name: str
    model: str
    modified_at: AwareDatetime
    size: int = Field(description="bytes", ge=0)
    digest: str
    details: Details
    workers: list[str]
    """Corral's: the workers that have it."""
    alias_of: str | None = None
    """Corral's: the model that this alias stands for."""


class Tags(Shape):
    """All models, the youngest first."""

    models: list[TagsModel]


class Gpu(Shape):
    """A GPU of a worker."""

    id: str
    """Its UUID."""
    label: str


class Resident(Shape):
    """A model in the memory of one worker."""

    name: str
    model: str
    size: int = Field(description="bytes", ge=0)
    digest: str
    details: Details
    expires_at: AwareDatetime
    """When Corral will unload it, if nobody asks for it until then and nothing else needs its room."""
    size_vram: int = Field(description="bytes on GPUs", ge=0)
    context_length: int = Field(description="tokens of a slot", ge=0)
    worker: str
    """Corral's: who holds it."""
    gpus: list[Gpu]
    """Corral's: what that worker computes on; none on a CPU, or where it is not known."""
    num_parallel: int = Field(description="Corral's: requests that it answers at once", ge=1)
    busy: int = Field(description="Corral's: requests that it answers now", ge=0)


class Residents(Shape):
    """What is loaded, a row for each replica, the one that stays longest first."""

    models: list[Resident]


class ShowRequest(Shape):
    """Whose details are wanted."""

    model: Name
    verbose: bool | None = None
    """Vocabulary and tensors too."""
    system: str | None = None
    options: Options = None


class ShowAnswer(Shape):
    """All about one model."""

    details: Details
    model_info: dict[str, Any]
    modified_at: AwareDatetime
    capabilities: list[str] = []
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    license: str = ""
    messages: list[Message] = []


class Version(Shape):
    """Of the Ollama API that is spoken."""

    version: str


# Stores ---------------------------------------------------------------------------------


class PullRequest(Shape):
    """Which model is to be fetched from its registry, or sent there."""

    model: Name
    insecure: bool | None = None
    stream: Stream = None


class CreateRequest(Shape):
    """A model to be made of another one, or of files whose blobs were sent before."""

    model: Name
    from_: str | None = Field(default=None, alias="from")
    files: dict[str, str] | None = None
    """File names to digests."""
    adapters: dict[str, str] | None = None
    template: str | None = None
    system: str | None = None
    license: str | list[str] | None = None
    parameters: dict[str, Any] | None = None
    messages: list[Message] | None = None
    quantize: str | None = None
    stream: Stream = None


class CopyRequest(Shape):
    """A second name for a model."""

    source: Name
    destination: Name


class DeleteRequest(Shape):
    """A name to be forgotten; the model is unloaded everywhere first."""

    model: Name


class Progress(Shape):
    """A line of what is being done; the last one says `success`, or `error` in place of `status`."""

    status: str | None = None
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    error: str | None = None


# Others ---------------------------------------------------------------------------------


class OpenAIModel(Shape):
    """A model as OpenAI lists it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(Shape):
    """OpenAI's list."""

    object: Literal["list"]
    data: list[OpenAIModel]


class AnthropicModel(Shape):
    """A model as Anthropic lists it."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: AwareDatetime


class AnthropicModels(Shape):
    """A page of Anthropic's list."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


class CompatibleRequest(Shape):
    """A request of an API that is described by those who made it."""

    model: Name


class Compatible(Shape):
    """An answer of an API that is described by those who made it."""


class Failure(Shape):
    """Why not."""

    error: str


class OpenAIErrorObject(Shape):
    """OpenAI's error."""

    message: str
    type: str
    param: str | None
    code: str | int | None


class OpenAIFailure(Shape):
    """Why not, as OpenAI says it."""

    error: OpenAIErrorObject


class AnthropicErrorObject(Shape):
    """Anthropic's error."""

    type: str
    message: str


class AnthropicFailure(Shape):
    """Why not, as Anthropic says it."""

    type: Literal["error"]
    error: AnthropicErrorObject


class Health(Shape):
    """Whether requests can be served."""

    status: str
    workers_ready: int
    workers: int


class Description(Shape):
    """This document."""

    openapi: str
    paths: dict[str, Any]
