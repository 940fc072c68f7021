"""From a reason to what the client gets: status, Retry-After and text. One table, pure."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from gateway.scheduling.types import Rejection, RejectReason
from supervisor.contract.wire import SERVER_BUSY


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer without a model's word in it."""

    status: int
    message: str
    retry_after_s: int | None = None
    """1 to 30 s: what the SDKs that retry will wait."""


_STATUS: Final = {
    RejectReason.UNKNOWN_MODEL: (HTTPStatus.NOT_FOUND, None),
    RejectReason.BARRED: (HTTPStatus.NOT_IMPLEMENTED, None),
    RejectReason.QUEUE_FULL: (HTTPStatus.SERVICE_UNAVAILABLE, 5),
    RejectReason.DEADLINE: (HTTPStatus.SERVICE_UNAVAILABLE, 10),
    RejectReason.LOAD_FAILED: (HTTPStatus.INTERNAL_SERVER_ERROR, None),
    RejectReason.NO_MEMORY: (HTTPStatus.INTERNAL_SERVER_ERROR, None),
}


def refusal_of(rejection: Rejection) -> Refusal:
    """Return what a client is told of a rejection."""
    status, retry_after_s = _STATUS[rejection.reason]
    busy = rejection.reason is RejectReason.QUEUE_FULL
    message = f"{SERVER_BUSY} ({rejection.message})" if busy else rejection.message
    return Refusal(status, message, retry_after_s)
