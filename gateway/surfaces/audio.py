"""OpenAI's audio/transcriptions: a multipart form with a file, the model's name, and perhaps a prompt.

Decides what its requests mean; the file stays where it is. Knows nothing of HTTP or workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from gateway.surfaces.identity import Caller, tenant_of
from gateway.surfaces.multipart import Field, FormError, fields_of
from gateway.surfaces.openai import error_object
from gateway.surfaces.prompts import BYTES_PER_TOKEN
from gateway.surfaces.surface import NOBODY, BadRequestError, Counts, Facts, ParsedRequest, read_model

AUDIO_BYTES_PER_TOKEN: Final = 1280
"""16 kHz in 16 bits are 32 kB a second, of which models make about 25 tokens; compressed files have more."""
_MOST_TEXT_BYTES: Final = 4096
"""A name is shorter, and so is whoever asks."""


class AudioSurface:
    """Transcriptions."""

    name = "audio"
    routes = frozenset({"/v1/audio/transcriptions"})
    carries_context = False
    id_header = "X-Request-Id"
    frame_end = b"\n"

    def parse(self, route: str, body: bytes, caller: Caller = NOBODY) -> ParsedRequest:
        """Read a form; its bytes go to the worker as they are."""
        content_type = caller.headers.get("content-type", "")
        try:
            fields = fields_of(content_type, body)
        except FormError as error:
            raise BadRequestError(f"failed to parse multipart form: {error}") from error
        texts: dict[str, str] = {
            name: _text(body, fields[name]) for name in ("model", "user") if name in fields
        }
        model = read_model(texts, route)
        if "file" not in fields or not fields["file"].is_file:
            raise BadRequestError("file is required: send the audio as the form's file `file`")
        tokens = _size_of(fields)
        facts = Facts(
            model=model,
            stream=False,
            tenant=tenant_of(caller, texts),
            prompt_tokens=tokens,
            longest_prompt_tokens=tokens,
        )
        at = fields["model"]
        return ParsedRequest(facts, body, content_type=content_type, model_at=(at.start, at.end))

    def error(self, status: int, message: str, *, request_id: str = "") -> bytes:  # noqa: ARG002 -- no part of this shape
        """Return OpenAI's error object."""
        return json.dumps(error_object(status, message)).encode()

    def error_frame(self, message: str, frames: int = 0) -> bytes:  # noqa: ARG002 -- nothing is streamed
        """Return the error object: an answer is one piece."""
        return self.error(500, message)

    def final_marks(self, route: str) -> tuple[bytes, ...]:  # noqa: ARG002 -- nothing is streamed
        """Return none."""
        return ()

    def counts(self, route: str, tail: bytes, frames: int) -> Counts:  # noqa: ARG002 -- it tells none
        """Return that nothing is told."""
        return Counts()


def _text(body: bytes, field: Field) -> str:
    if field.size_bytes > _MOST_TEXT_BYTES:
        raise BadRequestError(f"the form's field {field.name} is longer than {_MOST_TEXT_BYTES} bytes")
    return body[field.start : field.end].decode(errors="replace")


def _size_of(fields: Mapping[str, Field]) -> int:
    audio, prompt = fields["file"].size_bytes, fields["prompt"].size_bytes if "prompt" in fields else 0
    return -(-audio // AUDIO_BYTES_PER_TOKEN) + -(-prompt // BYTES_PER_TOKEN)
