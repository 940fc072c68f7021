"""Takes a port before its owner does: `python -I -S port_thief.py PORT [answers]`; ends with its parent.

With `answers` it answers every GET with 200, as a worker would; otherwise it only listens. Says so on a line.
"""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    """Takes everything for a question that it can answer."""

    def do_GET(self) -> None:
        """Answer 200."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


def main(port: str, *manners: str) -> None:
    """Listen until the parent is gone."""
    address = ("127.0.0.1", int(port))
    if "answers" in manners:
        server = http.server.ThreadingHTTPServer(address, Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    else:
        listener = socket.create_server(address)
        assert listener.fileno() >= 0
    print(flush=True)  # noqa: T201 -- the parent waits for it
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
