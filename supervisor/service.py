"""Tells systemd what happens to Corral: the shell around `supervisor/core/notifications.py`.

Decides nothing. It feeds the notifications what happened, sends what they say, and sleeps until their next
deadline. Where no systemd listens, nothing of this does anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.contract.fleet import FleetSnapshot
from supervisor.core import notifications
from supervisor.core.notifications import Notifications
from supervisor.host.notify import NotifySocket


def _time_of_day() -> str:
    return time.strftime("%H:%M:%S")


@dataclass(slots=True)
class Service:
    """One running supervisor as systemd sees it. Everything but the constructor needs the event loop."""

    systemd: NotifySocket
    time_of_day: Callable[[], str] = _time_of_day
    """For people, in the status line."""
    _notifications: Notifications | None = None
    _timer: asyncio.TimerHandle | None = None

    def begin(self, fleet: FleetSnapshot) -> None:
        """Begin to tell; before the endpoint serves that is what it waits for."""
        if self.systemd.address:
            now = asyncio.get_running_loop().time()
            self._notifications = Notifications(now, self.systemd.watchdog_s)
            self.fleet(fleet)

    def end(self) -> None:
        """Tell no more."""
        self._notifications = None
        if self._timer is not None:
            self._timer.cancel()

    def fleet(self, snapshot: FleetSnapshot) -> None:
        """A worker has moved, came or went."""
        self._feed(
            notifications.FleetChanged(tuple((status.worker, status.state) for status in snapshot.workers))
        )

    def served(self, url: str) -> None:
        """Clients are answered from now on."""
        self._feed(notifications.Served(url))

    def reload_began(self) -> None:
        """The configuration is being read again; `reload_ended` must follow."""
        self._feed(notifications.ReloadBegan())

    def reload_ended(self, result: str) -> None:
        """The reload is in force, or changed nothing; `result` says which, in one sentence."""
        self._feed(notifications.ReloadEnded(result, self.time_of_day()))

    def stop_began(self) -> None:
        """Everything is being ended."""
        self._feed(notifications.StopBegan())

    def gateway_answered(self, models_loaded: int | None) -> None:
        """The gateway's loop turns, and so many models are loaded."""
        self._feed(notifications.GatewayAnswered(models_loaded))

    def gateway_silent(self) -> None:
        """There is no gateway now that answers."""
        self._feed(notifications.GatewaySilent())

    def _feed(self, event: notifications.Event) -> None:
        if self._notifications is None:
            return
        loop = asyncio.get_running_loop()
        self.systemd.send(self._notifications.handle(event, loop.time()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._notifications.deadline is not None:
            due = notifications.DeadlinePassed()
            self._timer = loop.call_at(self._notifications.deadline, self._feed, due)
