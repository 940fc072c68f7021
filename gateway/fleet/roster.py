"""Which workers there are and which models each may serve: the gateway's view of the fleet.

Decides how names become variants. State without I/O: `fleet.py` fetches and is the only writer. Must not know
what the scheduler makes of it (`views.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from gateway.fleet.variants import DEFAULTS, Options, PassedVariants, with_options
from gateway.scheduling.names import Instance, Variant
from gateway.store.outgoing import is_stand_in
from gateway.workers.engines import honours, needs_context_in_requests
from supervisor.contract.config import ModelConfig
from supervisor.contract.fleet import FleetSnapshot, WorkerState, WorkerStatus
from supervisor.contract.names import InvalidModelNameError, ModelName
from supervisor.contract.wire import WEIGHTS_FIELD


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model as a worker's /api/tags lists it."""

    name: str
    variant: Variant
    row: Mapping[str, Any]
    """The whole row, to be shown to clients as it is."""

    @property
    def listed_as(self) -> str:
        """What tells it apart in the worker's own lists."""
        return listed_as(self.row)

    @property
    def digest(self) -> str:
        """As clients know it."""
        return str(self.row.get("digest") or "")

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        size = self.row.get("size")
        return size if isinstance(size, int) else 0


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """What /api/show tells of a model and /api/tags does not."""

    model_info: Mapping[str, Any]
    """The header of its file."""
    embedding: bool
    """It embeds and cannot chat."""
    weights: str = ""
    """`sha256:…` of its weights where the worker tells them here; other names may share them."""
    options: Options = field(default_factory=dict)
    """Runner options that its Modelfile sets."""

    @property
    def trained_context(self) -> int | None:
        """The longest context it was trained for, in tokens."""
        value = self.model_info.get(f"{self.model_info.get('general.architecture')}.context_length")
        return value if isinstance(value, int) else None


def key_of(name: str) -> str | None:
    """Return the identity of a model's name, or None when it can be no name."""
    try:
        return ModelName.parse(name).key
    except InvalidModelNameError:
        return None


@dataclass(frozen=True, slots=True)
class Target:
    """What a model's name stands for."""

    variant: Variant
    name: str
    """What a worker is to be told: as the client wrote it, or what its alias stands for."""
    listed: str = ""
    """As the stores list it."""


class Held(NamedTuple):
    """A model that a process holds: its lists tell no options but the context."""

    variant: Variant
    """What it was loaded as."""
    context_length: int
    """Tokens per slot, as the worker tells; 0 where it does not."""


@dataclass(slots=True)
class Roster:
    """The last fleet snapshot and, per worker, the models that were last seen in its store."""

    wishes: Mapping[str, ModelConfig] = field(default_factory=dict)
    """What the operator wants of single models, by their names."""
    snapshot: FleetSnapshot | None = None
    introduced: set[Instance] = field(default_factory=set)
    """Processes whose models and residency have been read; others get no request yet."""
    catalogues: dict[str, dict[str, ModelRow]] = field(default_factory=dict)
    """By worker name; outlives the process, so that a model stays known while its worker restarts."""
    passed: PassedVariants = field(default_factory=PassedVariants)
    """What requests brought with them."""
    held: dict[Instance, dict[str, Held]] = field(default_factory=dict)
    """What each process was last seen or made to hold, by weights."""
    tripped: Mapping[Instance, str] = field(default_factory=dict)
    """Processes that get no requests for now, because of how they answered (`gateway/health/`), and why."""
    withdrawn: set[str] = field(default_factory=set)
    """Keys of models that are being deleted: nobody is given them any more."""
    stand_ins: dict[str, str] = field(default_factory=dict)
    """By the keys of second names that no client sees (`store/outgoing.py`): the keys they stand in for."""
    _hidden: dict[str, frozenset[str]] = field(default_factory=dict)
    """By worker: such names in its list."""
    _details: dict[str, ModelDetails] = field(default_factory=dict)
    """By weights."""
    _weights: dict[str, str] = field(default_factory=dict)
    """By what a model is listed as: its weights, once /api/show has told them."""

    @property
    def statuses(self) -> tuple[WorkerStatus, ...]:
        """The workers as the supervisor last told."""
        return self.snapshot.workers if self.snapshot is not None else ()

    def status(self, instance: Instance) -> WorkerStatus | None:
        """Return the worker's status if it is still this process."""
        return next((s for s in self.statuses if instance_of(s) == instance), None)

    def ready(self) -> list[WorkerStatus]:
        """Return the workers that may be given requests."""
        return [status for status in self.statuses if self.is_ready(status)]

    def awaiting_introduction(self) -> list[WorkerStatus]:
        """Return the workers that came up and have not been asked what they hold."""
        ready = (s for s in self.statuses if s.state is WorkerState.READY)
        return [status for status in ready if instance_of(status) not in self.introduced]

    def all_introduced(self) -> bool:
        """Whether there is a fleet, and every worker that is up has told what it holds."""
        return self.snapshot is not None and not self.awaiting_introduction()

    def learn(self, worker: str, tags: Mapping[str, Any]) -> bool:
        """Take a worker's /api/tags answer and return whether it says anything new.

        Rows without a usable name or digest are left out.
        """
        rows: dict[str, ModelRow] = {}
        for row in tags.get("models") or []:
            name, listed = row.get("name"), listed_as(row)
            key = key_of(name) if isinstance(name, str) else None
            if key is not None and listed:
                rows[key] = ModelRow(name, self._variant(self.stand_ins.get(key, key), listed), row)
        hidden = frozenset(filter(is_stand_in, rows))
        if hidden:  # after the names that clients see, which are told apart first
            rows = {key: rows[key] for key in sorted(rows, key=hidden.__contains__)}
        self._hidden[worker] = hidden
        is_new = self.catalogues.get(worker) != rows
        self.catalogues[worker] = rows
        return is_new

    def adopt(self, wishes: Mapping[str, ModelConfig]) -> None:
        """Go by other wishes; requests under way keep the variants that they were given."""
        self.wishes = wishes
        for variant in self._revise():
            self.passed.admit(variant, self.is_held)

    def _revise(self) -> set[Variant]:
        """Bring all lists up to date with what is wished and known; return what a name stood for before."""
        outdated: set[Variant] = set()
        for rows in self.catalogues.values():
            for key, known in rows.items():
                variant = self._variant(self.stand_ins.get(key, key), known.listed_as)
                outdated |= {known.variant} - {variant}
                rows[key] = replace(known, variant=variant)
        return outdated

    def learn_details(self, row: ModelRow, details: ModelDetails) -> None:
        """Take a worker's /api/show answer; names that turn out to share their weights become one variant."""
        if details.weights:
            self._weights[row.listed_as] = details.weights
            self._revise()
        self._details[self._weights.get(row.listed_as, row.listed_as)] = details

    def details_of(self, variant: Variant) -> ModelDetails | None:
        """Return what /api/show told of the model; None before it was asked."""
        return self._details.get(variant.digest)

    def embeds(self, variant: Variant) -> bool:
        """Whether the model embeds and does not chat, as far as that is known."""
        details = self.details_of(variant)
        return details is not None and details.embedding

    def listed_on(self, worker: str, variant: Variant) -> frozenset[str]:
        """Return all that a variant may be listed as by a worker: one for each name over its weights."""
        rows = self.catalogues.get(worker, {}).values()
        return frozenset(row.listed_as for row in rows if row.variant.weights == variant.weights)

    def rows_of(self, worker: str, residents: Iterable[str]) -> list[ModelRow] | None:
        """Return a row for each model that a worker holds, or None when its list has not all of them."""
        by_listing = {row.listed_as: row for row in self.catalogues.get(worker, {}).values()}
        rows = [by_listing.get(listed) for listed in residents]
        return None if None in rows else [row for row in rows if row is not None]

    def resolve(self, name: str) -> Target | None:
        """Return what a model's name or alias stands for, on any worker; None when nobody has it."""
        key = key_of(name)
        alias = next((real for real, wish in self.wishes.items() if key in map(key_of, wish.aliases)), None)
        wanted = key if alias is None else key_of(alias)
        for status in self.statuses:
            row = self.allowed_rows(status).get(wanted or "")
            if row is not None:
                return Target(row.variant, name if alias is None else alias, row.name)
        return None

    def weights_of(self, listed: str) -> str:
        """Return the weights behind what a worker lists, as far as it told them."""
        return self._weights.get(listed, listed)

    def weights_listed(self, listed: Iterable[str]) -> set[str]:
        """Return the weights behind what a worker lists."""
        return {self.weights_of(name) for name in listed}

    def model_on(self, worker: str, variant: Variant) -> ModelRow | None:
        """Return the row of the model in that worker's store."""
        rows = self.catalogues.get(worker, {}).values()
        own = next((row for row in rows if row.variant == variant), None)
        if own is not None or variant not in self.passed:
            return own
        return next((replace(r, variant=variant) for r in rows if r.variant.digest == variant.digest), None)

    # Runner options ---------------------------------------------------------------

    def context_on(self, status: WorkerStatus, variant: Variant) -> int:
        """Return the tokens of one slot that the model has there, when it is as ordered."""
        details = self.details_of(variant)
        modelfile = details.options.get("num_ctx") if details is not None else None
        ordered = variant.num_ctx or modelfile or status.context_length
        trained = details.trained_context if details is not None else None
        return min(ordered, trained or ordered)

    def context_seen(self, status: WorkerStatus, variant: Variant) -> int:
        """Return the tokens of one slot as the worker told, else as they are to be."""
        held = self.held.get(instance_of(status), {}).get(variant.digest)
        seen = held.context_length if held is not None and held.variant == variant else 0
        return seen or self.context_on(status, variant)

    def own_options(self, status: WorkerStatus, variant: Variant) -> dict[str, int | bool]:
        """Return the runner options that the model has there anyway."""
        details = self.details_of(variant)
        modelfile = details.options if details is not None else {}
        context = self.context_on(status, variant)
        return {**DEFAULTS, **modelfile, **dict(variant.options), "num_ctx": context}

    def variant_with(self, base: Variant, options: Options) -> Variant:
        """Return the variant of a model that has these options, which may be the base itself."""
        return with_options(base, options, (self.own_options(s, base) for s in self.servers(base)))

    def refusing(self, variant: Variant) -> list[str]:
        """Return the options for which no worker would run the variant; none when some worker does."""
        servers = self.servers(variant)
        if any(runs(status, variant) for status in servers):
            return []
        return [name for name, _ in variant.options if not any(honours(s.engine, name) for s in servers)]

    def knows(self, variant: Variant) -> bool:
        """Whether some name stands for the variant, or a request brought it."""
        rows = (row for rows in self.catalogues.values() for row in rows.values())
        return variant in self.passed or any(row.variant == variant for row in rows)

    def is_held(self, variant: Variant) -> bool:
        """Whether some worker holds it, as far as it was seen."""
        return any(held.variant == variant for on in self.held.values() for held in on.values())

    def siblings(self, variant: Variant) -> list[Variant]:
        """Return all that is known of the same weights, itself included: an Ollama unloads them as one."""
        return [variant, *(v for v in self.passed if v.digest == variant.digest and v != variant)]

    def servers(self, variant: Variant) -> list[WorkerStatus]:
        """Return the workers that may serve the weights, whether they are up or not."""
        return [
            status
            for status in self.statuses
            if any(row.variant.digest == variant.digest for row in self.allowed_rows(status).values())
        ]

    def holder(self, variant: Variant) -> tuple[WorkerStatus, ModelRow] | None:
        """Return a ready worker whose store has the model."""
        for status in self.ready():
            row = self.model_on(status.worker, variant)
            if row is not None:
                return status, row
        return None

    def would_reload(self, variant: Variant) -> bool:
        """Whether a request that does not say the context would make some worker load the model anew."""
        if variant.num_ctx is None:
            return False
        servers = (s for s in self.ready() if self.model_on(s.worker, variant) is not None)
        return any(
            needs_context_in_requests(s.engine) and s.context_length != variant.num_ctx for s in servers
        )

    def models(self) -> list[ModelRow]:
        """Return every model that some worker may serve, once, by name."""
        merged: dict[str, ModelRow] = {}
        for status in self.statuses:
            for key, row in self.allowed_rows(status).items():
                merged.setdefault(key, row)
        return sorted(merged.values(), key=lambda row: row.name)

    def _variant(self, key: str, listed: str) -> Variant:
        wish = next((wish for name, wish in self.wishes.items() if key_of(name) == key), None)
        context = wish.context_length if wish is not None else None
        weights = self.weights_of(listed)
        return Variant(weights) if context is None else Variant(weights, (("num_ctx", context),))

    def is_ready(self, status: WorkerStatus) -> bool:
        """Whether the worker may be given requests."""
        return status.state is WorkerState.READY and instance_of(status) in self.introduced

    def allowed_rows(self, status: WorkerStatus) -> dict[str, ModelRow]:
        """Return what a worker has and may serve, by the keys of the names."""
        rows = self.catalogues.get(status.worker, {})
        hidden = self.withdrawn | self._hidden.get(status.worker, frozenset())
        if hidden:
            rows = {key: row for key, row in rows.items() if key not in hidden}
        if status.models is None:
            return rows
        allowed = {key_of(name) for name in status.models}
        return {key: row for key, row in rows.items() if key in allowed}


def runs(status: WorkerStatus, variant: Variant) -> bool:
    """Whether the worker heeds all options of the variant."""
    return all(honours(status.engine, name) for name, _ in variant.options)


def listed_as(row: Mapping[str, Any]) -> str:
    """Return what tells a model apart in a row of tags or ps; empty when nothing does.

    An embedded worker tells the weights, which several names may share and which then have one runner. An
    Ollama tells the digest of the name's manifest; the weights behind it only /api/show tells.
    """
    told = row.get(WEIGHTS_FIELD) or row.get("digest")
    return told if isinstance(told, str) else ""


def instance_of(status: WorkerStatus) -> Instance:
    """Return the key under which leases and residency of this process are kept."""
    return Instance(status.worker, status.incarnation)
