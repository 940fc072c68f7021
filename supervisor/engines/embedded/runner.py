"""One loaded model: a child process that is llama.cpp's HTTP server on a free loopback port.

`python -m supervisor.engines.embedded.runner` reads one JSON line with its order on stdin, answers one
JSON line on stdout, `{"address": ...}` or `{"error": ...}`, and lives until stdin closes. It decides
nothing: the worker does. It imports as little as it can, because every loaded model pays for it.

Why a process of its own: constructing llama.cpp's server holds Python's lock until the model is loaded,
destroying it can hang or crash, and a crash in native code must not take the worker with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
_BATCH: Final = 64
"""Tokens of a prompt between two looks at a client that may have left: some 2 s of a 7B model on one core.
Larger batches read a prompt no faster on a CPU (measured: 512 to 64 the same within noise)."""
_PROMPT_CACHE_MIB: Final = 0
"""llama.cpp would keep up to 8 GiB of old prompts in RAM, which nobody accounted for."""
_PING_INTERVAL_S: Final = 5


def main() -> None:
    """Load the model, say where it listens, and wait for the end of stdin."""
    _die_with(parent=os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # llama.cpp prints; only our one line may reach the worker's pipe
    order = json.loads(sys.stdin.buffer.readline())
    try:
        server = _serve(order)
    except Exception as error:  # noqa: BLE001 -- the edge of the program: whatever the engine says is the answer
        _answer(answers, {"error": str(error) or type(error).__name__})
        os._exit(1)
    _answer(answers, {"address": server.listening_address})
    while os.read(0, 4096):
        pass
    os._exit(0)  # leaving the interpreter while a request runs is a crash


def _die_with(parent: int) -> None:
    """Let the kernel kill this process with its parent; the pipe on stdin does it where that fails."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _answer(pipe: int, message: dict[str, str]) -> None:
    os.write(pipe, json.dumps(message).encode() + b"\n")


def _serve(order: dict[str, Any]) -> Any:  # noqa: ANN401 -- xllamacpp has no types
    import xllamacpp  # noqa: PLC0415 -- after the pipes are in order, because it may print

    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    params.cors_origins = ""
    params.ui = False
    params.endpoint_slots = True
    params.endpoint_metrics = False
    params.n_parallel = order["slots"]
    params.n_ctx = order["context_length"] * order["slots"]
    params.kv_unified = False  # every slot owns its share: no request can take another's context
    params.ctx_shift = True  # as Ollama: an answer longer than the context goes on
    params.n_batch = params.n_ubatch = max(_BATCH, order["slots"])
    params.n_threads_http = order["slots"] + 8
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order["threads"]
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.prefill_assistant = False  # prompts.py says which answers are continued
    params.fit_params = False
    params.sse_ping_interval = _PING_INTERVAL_S
    params.verbosity = 1
    params.n_gpu_layers = 0
    params.embedding = True  # costs nothing, and Ollama's chat models answer embed requests too
    if order["embeds"]:
        params.n_batch = params.n_ubatch = order["context_length"]  # a text is embedded in one batch
        params.kv_unified = True  # with shares of their own, texts of unequal length are cut to equal pieces
        params.kv_unified_per_slot = order["context_length"]
    if order["ranks"]:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    elif not order["embeds"]:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
