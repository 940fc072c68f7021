"""A worker that can be told how to misbehave: `python -I -S fake_worker.py PORT BEHAVIOUR…`.

Answers every GET with its pid, parent and environment. Behaviours: `exit` (at once, status 3), `unready`
(503 for ever), `deaf` (ignores SIGTERM), `child` and `daemon` (starts a process that sleeps; the second
one in a session of its own), `print` (lines of every kind), `blind` (says, as an Ollama does, that it found
no GPU). A GET of /eat has it take memory until somebody stops it, /eat-runner has a child do that.
"""

from __future__ import annotations

import http.server
import itertools
import json
import os
import signal
import subprocess
import sys
from typing import Any

SLEEPER = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]
EATER = [sys.executable, "-I", "-S", "-c", "hoard = []\nwhile True: hoard.append(bytearray(1 << 22))"]
BLIND = b'level=INFO source=types.go:60 msg="inference compute" id=cpu library=cpu compute="" name=cpu\n'
DIED = b'level=ERROR source=server.go:304 msg="llama runner terminated" error="signal: killed"\n'
LINES = [
    b"plain words\n",
    b'{"event":"model loaded","level":"warning","model":"m","worker":"liar"}\n',
    b"time=x level=ERROR msg=oh\n",
    b"x" * 40_000 + b"\n",
    b"no newline at the end",
]


def describe(children: list[int], asked: int) -> bytes:
    """Return what a test wants to know of this process."""
    cores = sorted(os.sched_getaffinity(0))
    about = {
        "pid": os.getpid(),
        "children": children,
        "env": dict(os.environ),
        "cores": cores,
        "asked": asked,
    }
    return json.dumps(about).encode()


def main(port: str, *behaviours: str) -> None:
    """Misbehave as told, then serve."""
    if "print" in behaviours:
        sys.stdout.buffer.write(b"".join(LINES))
        sys.stdout.flush()
    if "blind" in behaviours:
        sys.stdout.buffer.write(BLIND)
        sys.stdout.flush()
    if "exit" in behaviours:
        sys.exit(3)
    if "deaf" in behaviours:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sessions = [kind == "daemon" for kind in behaviours if kind in ("child", "daemon")]
    children = [subprocess.Popen(SLEEPER, start_new_session=session).pid for session in sessions]
    status = 503 if "unready" in behaviours else 200
    asked = itertools.count(1)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = describe(children, next(asked))
            if self.path == "/eat":
                os.execv(EATER[0], EATER)  # noqa: S606 -- so that this very process is killed
            if self.path == "/eat-runner":
                subprocess.run(EATER, check=False)
                sys.stdout.buffer.write(DIED)
                sys.stdout.flush()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Say nothing: its output is the test's."""

    http.server.HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
