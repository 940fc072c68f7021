"""`python -m supervisor.engines.embedded`: the worker process. Wires the parts; decides nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Literal

import structlog
import uvloop
from aiohttp import web

from supervisor.contract.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE
from supervisor.contract.log_stream import LogStream
from supervisor.contract.logs import processors
from supervisor.contract.shell.standard_error import taker
from supervisor.engines.embedded.app import make_app
from supervisor.engines.embedded.leases import Leases
from supervisor.engines.embedded.residency import Residency
from supervisor.engines.embedded.runners import usable_threads
from supervisor.engines.embedded.settings import Settings, SettingsError, parse_settings
from supervisor.engines.embedded.upstream import open_session
from supervisor.engines.embedded.worker import Starter, Worker
from supervisor.models.digests import Digests, cache_directory
from supervisor.models.directory import Directory, Report
from supervisor.models.library import Library
from supervisor.models.store import Store

_SHARE_OF_RAM = 0.8


def main() -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    style: Literal["console", "json"] = "console" if sys.stderr.isatty() else "json"
    stream = LogStream(taker(), style)
    structlog.configure(
        processors=processors(style), logger_factory=structlog.WriteLoggerFactory(stream.as_file())
    )
    try:
        settings = parse_settings(os.environ, memory_bytes=_default_memory_bytes())
    except SettingsError as error:
        print(f"embedded worker: {error}", file=sys.stderr)  # noqa: T201 -- for the person who started it
        return EXIT_USAGE
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    log = structlog.get_logger()
    library = _library(settings, log.warning)
    core = Residency(
        max_loaded=settings.max_loaded_models,
        max_queue=settings.max_queue,
        memory_bytes=settings.memory_bytes,
        keep_alive_s=settings.keep_alive_s,
    )
    worker = Worker(
        settings=settings,
        library=library,
        digests=Digests(cache_directory(os.environ)),
        leases=Leases(core, Starter(library, usable_threads()), log.info),
        session=open_session(),
    )
    stop = _on_signals()
    server = web.AppRunner(make_app(worker), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    try:
        await server.setup()
        await web.TCPSite(server, settings.host, settings.port).start()
    except OSError as error:
        print(f"embedded worker: cannot listen on OLLAMA_HOST: {error}", file=sys.stderr)  # noqa: T201 -- as above
        await worker.session.close()
        return EXIT_FAILED
    models = library.scan().values()
    worker.digests.begin(m.id for m in models if m.entry is None)
    log.info("listening", host=settings.host, port=settings.port, models=len(models))
    await stop.wait()
    _end(worker)
    return EXIT_OK


def _library(settings: Settings, report: Report) -> Library:
    return Library(
        Directory(Path(settings.gguf_dir), report) if settings.gguf_dir else None,
        Store(Path(settings.store), report),
        report,
    )


def _on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _end(worker: Worker) -> None:
    """End at once, as Ollama does: runners are killed, connections cut, a hash that runs is dropped."""
    worker.leases.close()
    os._exit(EXIT_OK)


def _default_memory_bytes() -> int:
    return int(_SHARE_OF_RAM * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


if __name__ == "__main__":
    sys.exit(main())
