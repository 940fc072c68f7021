"""Whose a request is, and which conversation it belongs to: from what real clients send. Pure.

Neither is a proof of anything: the scheduler shares slots fairly among tenants, and returns a session to
the worker that may still have its prefix cached. What is told further on, and logged, is never a credential
and never a prompt, only a hash of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from gateway.surfaces.prompts import opening_of

_HASH_CHARACTERS: Final = 12
_SESSION_CHARACTERS: Final = 16
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")
"""A name that can be logged as it is; any other, such as a mail address, is hashed."""

_USER_HEADERS: Final = ("x-openwebui-user-id", "x-openwebui-user-email")
_SESSION_HEADERS: Final = (
    "x-openwebui-chat-id",
    "x-claude-code-session-id",
    "session-id",
    "x-session-id",
)
_USER_SESSION: Final = "_session_"
"""Inside Claude Code's `metadata.user_id`: the user stands before it."""

_KEY_PREFIXES: Final = ("sk-ant-", "sk-proj-", "sk-")
_PLACEHOLDERS: Final = frozenset(
    {
        *("ollama", "lm-studio", "llama", "openai", "corral", "vllm", "local", "localhost", "default"),
        *("none", "null", "nil", "undefined", "empty", "no", "na", "n/a", "any", "anything", "whatever"),
        *("dummy", "fake", "test", "testing", "foo", "bar", "example", "placeholder", "changeme", "demo"),
        *("key", "token", "secret", "apikey", "api-key", "api_key", "my-key", "mykey", "my-api-key"),
        *("your-key", "your-api-key", "your_api_key", "yourkey", "key-here", "your-key-here"),
        *("no-key", "nokey", "no-key-required", "no-key-needed", "not-needed", "not_needed", "notneeded"),
        *("not-required", "not-used", "unused", "required-but-ignored", "ignored", "not-a-key", "1234"),
        *("dummy-key", "dummy_key", "fake-key", "test-key", "123", "12345", "123456", "abc", "abc123"),
    }
)
"""What people write where a client insists on a key and none is needed."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the transport tells."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Looked up by lower-case names."""
    address: str = ""
    """Of the client's host."""


def tenant_of(caller: Caller, request: Mapping[str, Any]) -> str:
    """Return whose the request is: of a real key, else of a user that is named, else of the address."""
    credential = _credential(caller.headers)
    if not is_placeholder(credential):
        return f"key:{sha256(_bytes(credential)).hexdigest()[:_HASH_CHARACTERS]}"
    named = next((value for name in _USER_HEADERS if (value := caller.headers.get(name))), "")
    user = named or _text(request.get("user")) or _user_id(request).partition(_USER_SESSION)[0]
    if user:
        return f"user:{_loggable(user)}"
    return f"addr:{caller.address}" if caller.address else ""


def session_of(caller: Caller, request: Mapping[str, Any]) -> str:
    """Return which conversation the request belongs to, with the model in the key; empty when none."""
    model = str(request.get("model"))
    identifier = next(_identifiers(caller.headers, request), "")
    if identifier:
        return _key(model, "id", [identifier])
    opening = opening_of(request)
    return _key(model, "opening", opening) if opening else ""


def is_placeholder(credential: str) -> bool:
    """Whether a credential is obviously none: `ollama`, `EMPTY`, `sk-xxxx` and their like."""
    core = credential.strip().casefold()
    for prefix in _KEY_PREFIXES:
        core = core.removeprefix(prefix)
    return core in _PLACEHOLDERS or not core.strip("x*.-_0 <>")


def _credential(headers: Mapping[str, str]) -> str:
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.casefold() == "bearer" and not is_placeholder(bearer):
        return bearer.strip()
    return headers.get("x-api-key", "").strip()


def _identifiers(headers: Mapping[str, str], request: Mapping[str, Any]) -> Iterator[str]:
    """Yield what clients call a conversation by, the most exact first."""
    for name in _SESSION_HEADERS:
        if headers.get(name):
            yield headers[name]
    for value in (_text(request.get("prompt_cache_key")), _text(request.get("user")), _user_id(request)):
        if value:
            yield value


def _user_id(request: Mapping[str, Any]) -> str:
    metadata = request.get("metadata")
    return _text(metadata.get("user_id")) if isinstance(metadata, dict) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _loggable(name: str) -> str:
    return name if _PLAIN.match(name) else sha256(_bytes(name)).hexdigest()[:_HASH_CHARACTERS]


def _key(model: str, kind: str, texts: Iterable[str]) -> str:
    digest = sha256()
    for text in (model.casefold(), kind, *texts):
        digest.update(_bytes(text) + b"\0")
    return digest.hexdigest()[:_SESSION_CHARACTERS]


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")
