"""What a request's prompt tells without a tokenizer: about how many tokens it has, and how it begins.

Pure, and the same for all surfaces: it looks at the fields that hold a prompt in any of them. A token is
counted as four bytes of UTF-8, which English and code come near to (texts in other scripts have more tokens
than that), an image as `IMAGE_TOKENS`. The worker's own count replaces the estimate when the answer is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

BYTES_PER_TOKEN: Final = 4
IMAGE_TOKENS: Final = 768
"""Of one image, of whatever size: models take 256 to 1600."""
_MESSAGE_TOKENS: Final = 4
"""What a chat template puts around a message."""

_PROMPT_FIELDS: Final = (
    *("system", "instructions", "prompt", "suffix", "messages", "input"),
    *("tools", "context", "images"),
)
_IMAGE_FIELDS: Final = frozenset({"images", "image_url", "input_audio", "source"})
_TASK: Final = "### Task:"
_OPENING_ROLES: Final = frozenset({"system", "developer"})


class PromptSize(NamedTuple):
    """Estimated tokens."""

    tokens: int
    """Of all that is to be read."""
    longest: int
    """Of the longest text that has to fit into the context as a whole: texts to embed are read one by one."""


def size_of(request: Mapping[str, Any]) -> PromptSize:
    """Return about how many tokens a request's prompt has."""
    total = sum(_tokens(request[name], name) for name in _PROMPT_FIELDS if name in request)
    texts = request.get("input")
    if isinstance(texts, list) and texts and all(isinstance(text, (str, list)) for text in texts):
        return PromptSize(total, max(_tokens(text, "input") for text in texts))
    return PromptSize(total, total)


def _tokens(value: object, field: str) -> int:
    """Count without recursion: a request may be nested as deep as JSON allows."""
    total, left = 0, [(field, value)]
    while left:
        name, item = left.pop()
        if name in _IMAGE_FIELDS and item:
            total += IMAGE_TOKENS * (len(item) if isinstance(item, list) else 1)
        elif isinstance(item, str):
            total += -(-_byte_length(item) // BYTES_PER_TOKEN)
        elif isinstance(item, list):
            left.extend(("", part) for part in item)
        elif isinstance(item, dict):
            total += _MESSAGE_TOKENS
            left.extend(item.items())
        elif isinstance(item, int):
            total += 1  # a prompt may be given as tokens
    return total


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def opening_of(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts a conversation begins with: those of the system, and the first that is not.

    All requests of one conversation have them in common. Empty when there is nothing to go by.
    """
    texts = [*_texts(request.get("system")), *_texts(request.get("instructions"))]
    texts += _first_messages(request.get("messages"))
    given = request.get("input")  # of the Responses API: a text, or messages among other items
    texts += _texts(given) if isinstance(given, str) else _first_messages(given)
    return (*texts, *_texts(request.get("prompt")))


def is_task(request: Mapping[str, Any]) -> bool:
    """Whether nobody waits for the answer at a screen: what Open WebUI asks by itself after each answer.

    It wants a title, tags and what might be asked next, by prompts that all begin alike.
    """
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, dict) or last.get("role") != "user":
        return False
    return next(_texts(last.get("content")), "").lstrip().startswith(_TASK)


def _first_messages(messages: object) -> Iterator[str]:
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        yield from _texts(message.get("content"))
        role = message.get("role")
        if not isinstance(role, str) or role not in _OPENING_ROLES:  # what is no text may have no hash
            return


def _texts(content: object) -> Iterator[str]:
    """Yield the texts of a field that may be one text or a list of parts."""
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str) and text:
            yield text
