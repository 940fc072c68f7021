"""The requests that change a store, checked: whatever is wrong with one is said before anything begins. Pure.

Source: Ollama 0.24 `server/routes.go`, `server/create.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor.contract.go_json import mismatch
from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.engines.embedded.failures import BAD_REQUEST, ApiError
from supervisor.engines.embedded.structs import Kind, Struct
from supervisor.models.creation import Order, Wish
from supervisor.models.gotemplate.lexer import TemplateError
from supervisor.models.manifest import digest_of
from supervisor.models.prompt_template import PromptTemplate

NO_ADAPTERS: Final = "the embedded engine cannot apply adapters: use the engine ollama"
INVALID_DIGEST: Final = "invalid digest format"
_INVALID_NAME: Final = "invalid model name"
_INFO_TYPES: Final[Mapping[str, type]] = {
    **dict.fromkeys(("model_family", "base_name", "quantization_level", "parameter_size"), str),
    **dict.fromkeys(("context_length", "embedding_length"), int),
    "capabilities": list,
}
_KINDS: Final = {str: "text", int: "whole number", list: "list"}
_NAMED: Final = {"model": Kind.TEXT, "name": Kind.TEXT}
_STREAMED: Final = {"stream": Kind.FLAG, "insecure": Kind.FLAG, "username": Kind.TEXT, "password": Kind.TEXT}

PULL: Final = Struct("PullRequest", _NAMED | _STREAMED)
PUSH: Final = Struct("PushRequest", _NAMED | _STREAMED)
DELETE: Final = Struct("DeleteRequest", _NAMED)
COPY: Final = Struct("CopyRequest", {"source": Kind.TEXT, "destination": Kind.TEXT})
CREATE: Final = Struct(
    "CreateRequest",
    _NAMED
    | dict.fromkeys(
        (
            "from",
            "template",
            "system",
            "quantize",
            "quantization",
            "remote_host",
            "renderer",
            "parser",
            "requires",
        ),
        Kind.TEXT,
    )
    | dict.fromkeys(("files", "adapters"), Kind.FILES)
    | dict.fromkeys(("parameters", "info"), Kind.OBJECT)
    | {"stream": Kind.FLAG, "license": Kind.ANY, "messages": Kind.MESSAGES},
)


def name_in(body: Mapping[str, Any]) -> str:
    """Return what a request calls its model, under either of Ollama's keys."""
    return str(body.get("model") or body.get("name") or "")


def name_of(text: str, refusal: str = _INVALID_NAME) -> ModelName:
    """Return a name.

    Raises:
        ApiError: 400 with `refusal`, it can be none.
    """
    try:
        return ModelName.parse(text)
    except InvalidModelNameError as error:
        raise ApiError(BAD_REQUEST, refusal) from error


def order_of(body: Mapping[str, Any]) -> Order:
    """Return what a create asks for.

    Raises:
        ApiError: 400, something is wrong or not supported.
    """
    name = name_of(name_in(body))
    files = {path: _digest(path, digest) for path, digest in body.get("files", {}).items()}
    _refuse_unsupported(body, files)
    if not body.get("from") and not files:
        text = "unknown type" if "files" in body else "neither 'from' or 'files' was specified"
        raise ApiError(BAD_REQUEST, text)
    source = name_of(body["from"]) if body.get("from") else None
    return Order(name=name, wish=_wish(body), source=source, files=files)


def _wish(body: Mapping[str, Any]) -> Wish:
    _check_template(body.get("template", ""))
    return Wish(
        template=body.get("template", ""),
        system=body.get("system", ""),
        licenses=_licenses(body.get("license")),
        parameters=body.get("parameters", {}),
        messages=body.get("messages", ()),
        renderer=body.get("renderer", ""),
        parser=body.get("parser", ""),
        requires=body.get("requires", ""),
        info=_info(body.get("info", {})),
    )


def _digest(path: str, digest: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise ApiError(BAD_REQUEST, "file path must be relative")
    found = digest_of(digest)
    if found is None:
        raise ApiError(BAD_REQUEST, INVALID_DIGEST)
    return found


def _refuse_unsupported(body: Mapping[str, Any], files: Mapping[str, str]) -> None:
    if body.get("remote_host"):
        raise ApiError(BAD_REQUEST, "the embedded engine has no models that run elsewhere (remote_host)")
    if body.get("quantize") or body.get("quantization"):
        text = "the embedded engine cannot quantize: give a GGUF file that is quantized already"
        raise ApiError(BAD_REQUEST, f"{text}, or use the engine ollama")
    if body.get("adapters"):
        raise ApiError(BAD_REQUEST, NO_ADAPTERS)
    if any(path.endswith((".safetensors", ".bin", ".pt")) for path in files):
        text = (
            "the embedded engine reads GGUF files alone: convert the model to GGUF, or use the engine ollama"
        )
        raise ApiError(BAD_REQUEST, text)


def _info(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """A value of another type would make a configuration that Ollama cannot read."""
    for key, kind in _INFO_TYPES.items():
        if not isinstance(info.get(key, kind()), kind):
            raise ApiError(BAD_REQUEST, f"info.{key} must be a {_KINDS[kind]}")
    return info


def _check_template(text: str) -> None:
    try:
        PromptTemplate.parse(text)
    except TemplateError as error:
        raise ApiError(BAD_REQUEST, f"template error: {error}") from error


def _licenses(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(texts, list):
        raise ApiError(BAD_REQUEST, mismatch(value, "[]string"))
    for text in texts:
        if text is not None and not isinstance(text, str):
            raise ApiError(BAD_REQUEST, mismatch(text, "string"))
    return tuple(text for text in texts if text)
