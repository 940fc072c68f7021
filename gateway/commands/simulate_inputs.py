"""Reads what `corral simulate` is given: the scenario, the CSV files it names, a request log.

Decides where relative paths start and how a mistake in one of the files reads.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.simulate.fitting import NothingShownError, as_yaml, fit
from gateway.simulate.model import Fleet
from gateway.simulate.overrides import Overrides, misfits, overridden
from gateway.simulate.request_log import LogReading, read_log
from gateway.simulate.scenario import Scenario, SyntheticSection, fleet_of
from gateway.simulate.shown import read_shown
from gateway.simulate.study import Study
from gateway.simulate.tables import TableError, read_lengths, read_trace
from gateway.simulate.workload import (
    NoRateError,
    Row,
    Synthetic,
    Tokens,
    UnknownModelError,
    exponential_lengths,
    named_as,
    trace_rho,
)
from supervisor.contract.mistakes import Key, key_text
from supervisor.contract.yaml_config import ConfigError, parse_as
from supervisor.contract.yaml_tree import Tree

_STANDARD_INPUT: Final = "-"
_FIRST_SEED: Final = 1


class InputError(Exception):
    """Something that was given cannot be used; the text names the file and says why."""


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A scenario and where each of its keys is written."""

    file: str
    scenario: Scenario
    tree: Tree

    def blame(self, key: Key, message: object) -> InputError:
        """Return a finding about a key as an error that names file and line."""
        return InputError(f"{self.file}:{self.tree.line_of(key) or 1}: {key_text(key)}: {message}")

    def beside(self, path: str) -> Path:
        """Return a path of the scenario; a relative one starts at its folder."""
        return Path(self.file).parent / path

    @property
    def seed(self) -> int:
        """The seed that the scenario asks for."""
        synthetic = self.scenario.workload.synthetic
        return _FIRST_SEED if synthetic is None else synthetic.seed


def read_scenario(file: str) -> ScenarioFile:
    """Return the scenario of a file.

    Raises:
        InputError: not readable, or wrong, with every mistake in it.
    """
    try:
        scenario, tree = parse_as(Scenario, _read(file), file=file, check=misfits)
    except ConfigError as error:
        raise InputError(str(error)) from error
    return ScenarioFile(file, scenario, tree)


def read_request_log(file: str) -> LogReading:
    """Return the requests of a log; `-` is standard input.

    Raises:
        InputError: not readable, or nothing in it can be replayed.
    """
    reading = read_log(_log_lines(file))
    if not reading.rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in reading.skipped.most_common())
        raise InputError(
            f"{file}: no line can be replayed ({reasons or 'it is empty'}); the gateway writes such lines "
            "with `log: {format: json}`"
        )
    return reading


def fitted_scenario(file: str) -> list[str]:
    """Return the lines of a scenario that explains a log; `-` is standard input.

    Raises:
        InputError: not readable, or it shows too little.
    """
    try:
        return list(as_yaml(fit(read_shown(_log_lines(file)))))
    except NothingShownError as error:
        raise InputError(f"{file}: {error}") from error


def _log_lines(file: str) -> list[str]:
    return (sys.stdin.read() if file == _STANDARD_INPUT else _read(file)).splitlines()


def study_of(
    source: ScenarioFile, by: Overrides, *, rho: float | None, log: tuple[str, LogReading] | None
) -> Study:
    """Return what is to be simulated; a log, with its file's name, takes the place of the workload.

    Raises:
        InputError: the files do not fit together.
    """
    try:
        scenario = overridden(source.scenario, by)
    except ValueError as error:
        raise InputError(f"{source.file}: {error}") from error
    for mistake in misfits(scenario):
        raise source.blame(mistake.key, mistake.message)
    fleet = fleet_of(scenario)
    if log is None and scenario.workload.synthetic is not None:
        process = _process(source, scenario.workload.synthetic)
        rho = rho or scenario.workload.synthetic.rho
        return Study(fleet=fleet, source=process, rho=rho, scheduling=scenario.scheduling)
    try:
        rows, scale = (named_as(fleet, log[1].rows), 1.0) if log else _trace(source, scenario, fleet)
    except UnknownModelError as error:
        raise (InputError(f"{log[0]}: {error}") if log else source.blame(_TRACE, error)) from error
    rho = rho or _rho_of(fleet, rows, scale)
    return Study(fleet=fleet, source=rows, rho=rho, scheduling=scenario.scheduling)


def _rho_of(fleet: Fleet, rows: Sequence[Row], scale: float) -> float | None:
    try:
        return trace_rho(fleet, rows) * scale
    except NoRateError:
        return None


_TRACE: Final[Key] = ("workload", "trace")
_TOKENS: Final[Key] = ("workload", "synthetic", "tokens")


def _trace(source: ScenarioFile, scenario: Scenario, fleet: Fleet) -> tuple[list[Row], float]:
    """Return a trace's rows, and how many times as fast they are to come."""
    assert scenario.workload.trace is not None, "the schema asks for one of both"
    path = source.beside(scenario.workload.trace)
    try:
        rows = read_trace(_read_of(source, _TRACE, path))
    except TableError as error:
        raise InputError(f"{path}: {error}") from error
    return named_as(fleet, rows), scenario.workload.rate_scale


def _process(source: ScenarioFile, section: SyntheticSection) -> Synthetic:
    return Synthetic(
        zipf=section.zipf,
        cv=section.cv,
        requests=section.requests,
        shifts=section.shifts,
        tenants=section.tenants,
        prompt_scale=section.prompt_scale,
        lengths=_lengths(source, section),
    )


def _lengths(source: ScenarioFile, section: SyntheticSection) -> list[Tokens]:
    if section.tokens is None:
        return exponential_lengths()
    path = source.beside(section.tokens)
    try:
        return read_lengths(_read_of(source, _TOKENS, path))
    except TableError as error:
        raise InputError(f"{path}: {error}") from error


def _read_of(source: ScenarioFile, key: Key, path: Path) -> str:
    try:
        return _read(str(path))
    except InputError as error:
        raise source.blame(key, error) from error


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8-sig")  # as spreadsheets write it, or without the mark
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error.strerror if isinstance(error, OSError) else error}") from error
