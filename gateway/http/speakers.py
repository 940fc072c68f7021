"""Which workers of a model have the route that a client asked for; of what no worker has, a clear 501.

Decides it from the engines' tables, and from what workers themselves answered: an older server of an engine
may lack a route, and says so. Knows no sockets.
"""

from __future__ import annotations

from http import HTTPStatus

from gateway.fleet.roster import Roster, Target, instance_of
from gateway.scheduling.names import Instance
from gateway.surfaces.surface import BadRequestError
from gateway.workers.engines import speakers, speaks, spoken_by_all
from supervisor.contract.fleet import WorkerStatus


class Speakers:
    """One gateway's knowledge of that."""

    def __init__(self, roster: Roster) -> None:
        """Share the roster, which somebody else keeps true."""
        self._roster = roster
        self._lacking: set[tuple[Instance, str]] = set()
        """What workers answered that they do not have."""

    def lacks(self, instance: Instance, route: str) -> None:
        """Remember what a worker said of itself; its successor is asked anew."""
        self._lacking = {known for known in self._lacking if self._roster.status(known[0]) is not None}
        self._lacking.add((instance, route))

    def can_serve(self, status: WorkerStatus, route: str) -> bool:
        """Whether the worker may be asked."""
        return speaks(status.engine, route) and (instance_of(status), route) not in self._lacking

    def unable(self, target: Target, route: str) -> frozenset[Instance]:
        """Return the workers that have the model and not the route.

        Raises:
            BadRequestError: 501, no worker has both.
        """
        if spoken_by_all(route):
            return frozenset()
        servers = self._roster.servers(target.variant)
        unable = [status for status in servers if not self.can_serve(status, route)]
        if unable and len(unable) == len(servers):
            raise BadRequestError(_refusal(route, target.name, unable), status=HTTPStatus.NOT_IMPLEMENTED)
        return frozenset(map(instance_of, unable))


def _refusal(route: str, model: str, unable: list[WorkerStatus]) -> str:
    """Say what to do: which engines have the route, or that a worker's server is too old for it."""
    where = ", ".join(f"{status.worker} ({status.engine})" for status in unable)
    able = speakers(route)
    if not able:
        advice = "no engine of Corral does: use another API"
    elif all(status.engine in able for status in unable):
        advice = "these are too old for it: update them"
    else:
        advice = f"give the model to a worker with the engine {' or '.join(able)}, or use another API"
    return f"{route} is not spoken by any worker that has {model}: {where}; {advice}"
