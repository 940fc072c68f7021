"""Administration on the unix socket: health, and the fleet as `corral ps` prints it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from gateway.decisions.memory import UnknownRequestError
from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import instance_of
from gateway.http.listing import held_by
from gateway.runtime import Runtime
from gateway.scheduling.names import Variant
from gateway.scheduling.residency import Phase, Replica, WorkerResidency
from gateway.surfaces import residents
from supervisor.contract.fleet import WorkerStatus


class AdminHandlers:
    """Handlers that only the machine's operator reaches."""

    def __init__(self, fleet: Fleet, runtime: Runtime) -> None:
        """Look at the roster and the scheduler; change neither."""
        self._fleet = fleet
        self._runtime = runtime

    async def health(self, _: web.Request) -> web.Response:
        """Tell how many workers can take requests; 503 while none can."""
        ready, known = len(self._fleet.roster.ready()), len(self._fleet.roster.statuses)
        answer = {"status": "ok" if ready else "no worker is ready", "workers_ready": ready, "workers": known}
        return web.json_response(answer, status=200 if ready else 503)

    async def alive(self, _: web.Request) -> web.Response:
        """Tell the supervisor that the gateway serves, and how many models its workers hold."""
        replicas = (r for worker in self._runtime.scheduler.workers for r in worker.replicas.values())
        loaded = sum(replica.phase is Phase.RESIDENT for replica in replicas)
        return web.json_response({"status": "ok", "models_loaded": loaded})

    async def fleet(self, _: web.Request) -> web.Response:
        """Tell every worker with what it holds."""
        residency = {worker.view.instance: worker for worker in self._runtime.scheduler.workers}
        rows = [
            self._worker(status, residency.get(instance_of(status))) for status in self._fleet.roster.statuses
        ]
        return web.json_response({"workers": rows, "queue": self._queue()})

    async def request(self, request: web.Request) -> web.Response:
        """Tell why a request went where it went, and what is done for it while it waits."""
        start = request.match_info["id"]
        try:
            document = self._runtime.decisions.explain(start)
        except UnknownRequestError as error:
            return web.json_response({"error": str(error)}, status=404)
        place = [row for row in self._runtime.waiting() if row["id"] == document["id"]]
        return web.json_response({**document, "place": place[0]} if place else document)

    async def queue(self, _: web.Request) -> web.Response:
        """Tell who waits, in the likely order of their turns."""
        return web.json_response({"waiting": self._runtime.waiting()})

    def _worker(self, status: WorkerStatus, residency: WorkerResidency | None) -> dict[str, Any]:
        held = residency if status.base_url else None  # a process that is gone holds nothing
        replicas = held.replicas.items() if held is not None else ()
        return {
            **status.model_dump(mode="json"),
            "left_out": self._fleet.roster.tripped.get(instance_of(status), ""),
            "resident": [self._replica(held, v, r) for v, r in replicas if held is not None],
        }

    def _replica(self, worker: WorkerResidency, variant: Variant, replica: Replica) -> dict[str, Any]:
        pinned = (worker.view.instance, variant) in self._runtime.scheduler.protected()
        held = held_by(self._fleet, worker, variant, replica, pinned=pinned)
        if held is None:
            return {"name": variant.digest[:12], "phase": replica.phase}
        shown = residents.row(held, asyncio.get_running_loop().time(), datetime.now(UTC))
        if replica.phase is not Phase.RESIDENT:
            shown["expires_at"] = ""
        return {**shown, "phase": "draining" if replica.draining else replica.phase}

    def _queue(self) -> list[dict[str, Any]]:
        roster, queued_of = self._fleet.roster, self._runtime.scheduler.queued
        queued = ((row.name, sum(map(queued_of, roster.siblings(row.variant)))) for row in roster.models())
        return [{"model": name, "waiting": waiting} for name, waiting in queued if waiting]
