"""What becomes of the runner options in a request, and what its client is told of it.

With `scheduling.context: pin` they are left out: a model runs as the operator configured it. With `pass`
they make a variant of the model. Either way nothing is cut or clamped in silence: what was left out, what
the model runs with and what does not fit goes into headers and the log. Decides that, and how the worker
must be addressed; knows no sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from gateway.fleet.fleet import Fleet
from gateway.fleet.roster import Roster, Target
from gateway.fleet.variants import MOST_VARIANTS, PASSED, OptionError, OptionTypeError, check_type, checked
from gateway.fleet.views import is_kept_everywhere
from gateway.http.request_log import RequestRecord
from gateway.scheduling.names import Variant
from gateway.surfaces.surface import BadRequestError, Facts, ParsedRequest, Surface, addressed, readdressed
from supervisor.contract.fleet import WorkerStatus


@dataclass(frozen=True, slots=True)
class Contexts:
    """The rule of one gateway."""

    fleet: Fleet
    passes_options: bool
    """`scheduling.context: pass`."""

    def variant_of(self, facts: Facts, target: Target, record: RequestRecord) -> Variant:
        """Return what the request is to run on, and note in its record what was decided.

        Raises:
            BadRequestError: an option cannot be honoured, or too many variants are in use.
        """
        asked = facts.runner_options
        if not asked:
            return target.variant
        _check_types(asked)
        kept = PASSED & asked.keys() if self.passes_options else frozenset()
        record.context = "passed" if kept else "pinned"
        record.ignored_options = {name: value for name, value in asked.items() if name not in kept}
        return self._passed(facts, target, record) if kept else target.variant

    def _passed(self, facts: Facts, target: Target, record: RequestRecord) -> Variant:
        roster = self.fleet.roster
        try:
            options = checked(facts.runner_options)
        except OptionError as error:
            raise BadRequestError(str(error)) from error
        details = roster.details_of(target.variant)
        trained = details.trained_context if details is not None else None
        asked = options.get("num_ctx", 0)
        if trained is not None and asked > trained:
            record.warning = f"num_ctx {asked} is more than the {trained} tokens the model was trained for"
            options["num_ctx"] = trained
        variant = roster.variant_with(target.variant, options)
        if variant != target.variant:
            _check_workers(roster, variant, target)
        if not self.fleet.admit(variant):
            text = (
                f"{MOST_VARIANTS} different sets of runner options are in use; try again, or leave them out"
            )
            raise BadRequestError(text, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return variant

    def check(self, surface: Surface, target: Target) -> None:
        """Refuse what would make a worker load the model anew.

        Raises:
            BadRequestError: the model has a context that this API cannot name.
        """
        if not surface.carries_context and self.fleet.roster.would_reload(target.variant):
            raise BadRequestError(
                f"{target.name} has a context_length of its own, which {surface.name} requests cannot carry "
                "to its worker: use /api, or serve it on a worker with that context_length"
            )


def _check_types(asked: Mapping[str, Any]) -> None:
    """Refuse options of another type as Ollama does, also those that are left out."""
    try:
        for name in PASSED & asked.keys():
            check_type(name, asked[name])
    except OptionTypeError as error:
        raise BadRequestError(str(error), status=HTTPStatus.INTERNAL_SERVER_ERROR) from error


def _check_workers(roster: Roster, variant: Variant, target: Target) -> None:
    """Refuse what no worker will ever run, rather than let it wait."""
    options = ", ".join(name for name, _ in variant.options)
    refused = roster.refusing(variant)
    if refused:
        text = f"no worker of {target.name} can run it with {', '.join(refused)}: leave that option out"
        raise BadRequestError(text)
    if is_kept_everywhere(roster, target.variant):
        raise BadRequestError(
            f"{target.name} is kept loaded as configured on all its workers (pin, min_replicas), "
            f"so that none can run it with other options: leave out {options}"
        )


def note_context(roster: Roster, status: WorkerStatus, variant: Variant, record: RequestRecord) -> None:
    """Note with how many tokens a slot runs, and whether the prompt will fit."""
    record.context_tokens = roster.context_seen(status, variant)
    tokens = record.facts.longest_prompt_tokens if record.facts is not None else 0
    if tokens <= record.context_tokens:
        return
    told = (
        f"a prompt of about {tokens} tokens is longer than the context of {record.context_tokens}: "
        "what does not fit is left out by the worker"
    )
    if told not in record.warning:  # by an earlier attempt
        record.warning = f"{record.warning}; {told}" if record.warning else told


def body_for(target: Target, variant: Variant, parsed: ParsedRequest, surface: Surface) -> bytes:
    """Return the client's bytes, unless the model has another name or options of its own."""
    options = dict(variant.options) if surface.carries_context else {}
    if not options and target.name == parsed.facts.model:
        return parsed.body
    if parsed.model_at is not None:
        return readdressed(parsed.body, parsed.model_at, target.name)
    return addressed(parsed.body, model=target.name, options=options)
