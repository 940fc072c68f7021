"""One xllamacpp server in a child process, to ask a model directly.

Constructing the server holds the interpreter lock until the model is loaded, a forked child hangs, and its
destructors can hang too: hence a fresh interpreter, and `os._exit`.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Engine:
    """A running server."""

    address: str

    def post(self, route: str, body: dict[str, Any]) -> Any:
        """The JSON answer to a JSON request; raises `urllib.error.HTTPError` on a refusal."""
        request = urllib.request.Request(f"{self.address}{route}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def complete(self, prompt: str, **options: Any) -> str:
        """The text that follows a raw prompt."""
        return str(self.post("/completion", {"prompt": prompt, **options})["content"])

    def chat(self, *messages: str, **options: Any) -> str:
        """The answer to messages that user and assistant say in turn, the user first."""
        roles = ("user", "assistant")
        turns = [{"role": roles[at % 2], "content": text} for at, text in enumerate(messages)]
        answer = self.post("/v1/chat/completions", {"messages": turns, **options})
        return str(answer["choices"][0]["message"]["content"])

    def embed(self, *texts: str) -> list[list[float]]:
        """One vector for each text."""
        answer = self.post("/v1/embeddings", {"input": texts})
        return [item["embedding"] for item in answer["data"]]


@contextmanager
def engine(model: Path, *, embeds: bool = False, threads: int = 1) -> Iterator[Engine]:
    """Serve a GGUF file for as long as the block lasts.

    Raises:
        RuntimeError: The engine refused the file; the text is the engine's.
    """
    argv = [sys.executable, __file__, str(model), str(int(embeds)), str(threads)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            said = json.loads(child.stdout.readline())
            if "error" in said:
                raise RuntimeError(said["error"])
            yield Engine(said["address"])
        finally:
            child.kill()


def _serve(model: str, *, embeds: bool, threads: int) -> None:
    import xllamacpp  # noqa: PLC0415 - only the child loads it; its threads must not be in the tests' process

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 4096
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.fit_params = False
    params.verbosity = 0
    params.embedding = embeds
    server = xllamacpp.Server(params)  # stops when it is collected
    print(json.dumps({"address": server.listening_address}), file=_PIPE, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    _PIPE = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what llama.cpp prints must not get into the answer
    try:
        _serve(sys.argv[1], embeds=sys.argv[2] == "1", threads=int(sys.argv[3]))
    except RuntimeError as refusal:
        print(json.dumps({"error": str(refusal)}), file=_PIPE, flush=True)
    os._exit(1)
