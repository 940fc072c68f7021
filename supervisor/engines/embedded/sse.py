"""Lines of a server-sent-event stream, from chunks that split anywhere. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

_FIELDS: Final = (b"data: ", b"error: ")
_END: Final = b"[DONE]"


@dataclass(slots=True)
class SseParser:
    """Collects chunks and yields the JSON objects of complete events."""

    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that `chunk` completes; comments, blank lines and `[DONE]` are none.

        llama.cpp sends an error after the first byte as `error: {...}`: that is `{"error": {...}}` here.
        """
        self._rest += chunk
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        for line in lines:
            for name in _FIELDS:
                if line.startswith(name) and not line.startswith(name + _END):
                    value = json.loads(line[len(name) :])
                    yield value if name == b"data: " or "error" in value else {"error": value}
