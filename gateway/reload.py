"""Takes new settings while the gateway serves: nobody is refused, and what was learned and leased stays.

Decides when the configuration is read again, and hands each part of the gateway what concerns it. A
supervisor counts the configurations that it accepted; one that cannot be read changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from gateway.commands.settings import SettingsError
from gateway.fleet.external_link import ExternalLink
from gateway.fleet.fleet import Fleet
from gateway.health.watch import Health
from gateway.http.bodies import BodyLimit
from gateway.http.edge import Edge
from gateway.http.inference import InferenceHandlers
from gateway.relay.upstream import Upstream
from gateway.runtime import Runtime
from gateway.scheduling.types import PolicyChanged
from supervisor.contract.changes import Applied, applied, changed_keys, in_force
from supervisor.contract.config import Config, SchedulingConfig
from supervisor.contract.logs import set_level

_log = structlog.get_logger("gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All that goes by the configuration."""

    fleet: Fleet
    runtime: Runtime
    external: ExternalLink
    upstream: Upstream
    health: Health
    inference: InferenceHandlers
    edge: Edge
    body_limit: BodyLimit

    def use(self, config: Config) -> None:
        """Go by this configuration from now on."""
        set_level(config.log.level)
        limits = config.gateway
        self.upstream.use(connect_timeout_s=limits.connect_timeout, idle_timeout_s=limits.idle_timeout)
        self.health.use(limits)
        passes_options = config.scheduling.context == "pass"
        self.inference.failover.use(limits)
        self.inference.use(request_timeout_s=limits.request_timeout, passes_options=passes_options)
        self.edge.origins = replace(self.edge.origins, configured=limits.cors_origins)
        self.body_limit.use(limits)
        self.runtime.feed(PolicyChanged(policy_of(config)))
        self.fleet.use(config.models, limits.load_timeout)
        self.external.use(config.external)


def policy_of(config: Config) -> SchedulingConfig:
    """Return the scheduler's constants: a model must be drained for well before its requests are given up."""
    latest = config.gateway.request_timeout / 2
    return config.scheduling.model_copy(update={"drain_after": min(config.scheduling.drain_after, latest)})


@dataclass(slots=True)
class Settings:
    """What is in force. Its only writer is `reread`."""

    config: Config
    read: Callable[[], Config]
    """Reads the configuration; raises SettingsError."""
    number: int = 0
    """Which of the configurations that the supervisor accepted; 0 before it told."""
    _use: Callable[[Config], None] | None = None
    _told: int = 0

    def begin(self, use: Callable[[Config], None]) -> None:
        """Have somebody go by what is in force from now on."""
        self._use = use
        self.accepted(self._told)

    def accepted(self, number: int) -> None:
        """Take the configuration of that number, unless it is in force already."""
        self._told = number
        if self._use is not None and number > self.number and self.reread():
            self.number = number

    def reread(self) -> bool:
        """Read the configuration and go by it; whether it could be read."""
        try:
            config = self.read()
        except SettingsError as error:
            _log.error("the settings stay as they are: the configuration cannot be used", error=str(error))
            return False
        changed = changed_keys(self.config, config)
        self.config = in_force(self.config, config)
        if changed and self._use is not None:
            self._use(self.config)
            _tell(changed)
        return True


def _tell(changed: tuple[str, ...]) -> None:
    by_restart = [key for key in changed if applied(key) is Applied.BY_RESTART]
    in_place = [key for key in changed if applied(key) is Applied.IN_PLACE]
    if in_place:
        _log.info("new settings", keys=in_place)
    if by_restart:
        _log.warning("not applied: these need a restart of Corral", keys=by_restart)
