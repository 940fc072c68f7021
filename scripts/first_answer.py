"""Waits for a Corral that is starting, asks its demo model one question and shows the answer as it comes.

Usage: python -m scripts.first_answer --pid PID [--model NAME]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import ollama

from supervisor.contract.runtime_dir import ENDPOINT, LOCK, runtime_dir

QUESTION = "Who works on the ranch?"
START_LIMIT_S = 120.0


def main() -> int:
    """Return 0 after an answer, 1 when Corral went away or none came."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pid", type=int, required=True, help="the process of `corral up`")
    parser.add_argument("--model", default="corral-demo", help="whom to ask (default: corral-demo)")
    args = parser.parse_args()
    url = wait_for_endpoint(Path(runtime_dir(None, os.environ, os.getuid())) / ENDPOINT, args.pid)
    if url is None:
        return 1
    print(f"\n{args.model} is asked: {QUESTION}\n", flush=True)
    try:
        answer(url, args.model)
    except (ollama.ResponseError, ConnectionError) as error:
        print(f"no answer: {error}", file=sys.stderr)
        return 1
    print(f"\nThat came from {url}. Use it with any Ollama or OpenAI client:", flush=True)
    print(f"  export OLLAMA_HOST={url}  OPENAI_BASE_URL={url}/v1  OPENAI_API_KEY=none\n", flush=True)
    return 0


def wait_for_endpoint(endpoint: Path, pid: int) -> str | None:
    """Return the URL once Corral has written it, or None when its process is gone or too slow."""
    give_up = time.monotonic() + START_LIMIT_S
    while time.monotonic() < give_up:
        if not alive(pid):
            return None
        if endpoint.exists() and locked_by(endpoint.parent, pid):
            return endpoint.read_text().strip()
        time.sleep(0.05)
    print(f"Corral was not ready within {START_LIMIT_S:.0f} s", file=sys.stderr)
    return None


def locked_by(directory: Path, pid: int) -> bool:
    """Whether the runtime directory is this Corral's, and not one's that ran before or runs beside it."""
    return (directory / LOCK).read_text().strip() == str(pid)


def alive(pid: int) -> bool:
    """Whether the process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def answer(url: str, model: str) -> None:
    """Print one streamed answer."""
    client = ollama.Client(url, trust_env=False)
    for part in client.chat(model, [{"role": "user", "content": QUESTION}], stream=True):
        print(part.message.content, end="", flush=True)
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
