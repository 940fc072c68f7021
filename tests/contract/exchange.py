"""One request over HTTP and what came back, in a form that can be kept and compared."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

from tests.contract.cases import Case

_TIMEOUT_S = 60
_NO_JSON = ("[DONE]", "event: ")


def exchange(host: str, port: int, case: Case) -> dict[str, Any]:
    """Send a case and return status, content type and the body's JSON objects (or its text)."""
    connection = HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        body = case.body if case.body is None or isinstance(case.body, str) else json.dumps(case.body)
        connection.request(case.method, case.path, body=body)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    content_type = response.headers.get("Content-Type", "")
    return {"status": response.status, "content_type": content_type, "body": parsed(text, content_type)}


def parsed(text: str, content_type: str) -> Any:
    """Return the objects of NDJSON or SSE as a list, of JSON as they are, and other text as text."""
    if content_type.startswith("application/x-ndjson"):
        return [json.loads(line) for line in text.splitlines()]
    if content_type.startswith("text/event-stream"):
        events = [line.removeprefix("data: ") for line in text.splitlines() if line]
        return [event if event.startswith(_NO_JSON) else json.loads(event) for event in events]
    if content_type.startswith("application/json") and text:
        return json.loads(text)
    return text
