"""The one vocabulary of refusals: an HTTP status and the text that Ollama 0.24 gives for it. Pure."""

from __future__ import annotations

from typing import Final

from supervisor.contract import wire

_BINARY_UNITS: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))

BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404
TOO_LARGE: Final = 413
INTERNAL: Final = 500
NOT_IMPLEMENTED: Final = 501
BUSY: Final = 503

RUNNER_DIED: Final = wire.RUNNER_TERMINATED
INPUT_TOO_LONG: Final = "the input length exceeds the context length"


class ApiError(Exception):
    """A request that gets no answer, or no whole one."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class RunnerLostError(ApiError):
    """The runner's process ended, or its connection broke, before its answer was complete."""

    def __init__(self, text: str = RUNNER_DIED) -> None:
        super().__init__(INTERNAL, text)


def busy() -> ApiError:
    """More requests wait than the queue takes."""
    return ApiError(BUSY, wire.SERVER_BUSY)


def no_memory(need_bytes: int, available_bytes: int) -> ApiError:
    """The model cannot fit, whatever is unloaded for it."""
    need, available = human_bytes(need_bytes), human_bytes(available_bytes)
    return ApiError(INTERNAL, f"model requires more system memory ({need}) than is available ({available})")


def human_bytes(count: int) -> str:
    """Return `1.5 GiB`: how Ollama writes sizes in errors."""
    for unit, size in _BINARY_UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
