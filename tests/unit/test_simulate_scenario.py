from __future__ import annotations

import pytest

from gateway.simulate.overrides import Overrides, misfits, overridden
from gateway.simulate.scenario import Scenario, fleet_of
from supervisor.contract.yaml_config import ConfigError, parse_as

SMALL = """
workers: {vram_gb: 24}
models:
  - {name: "tiny:1b", size_gb: 2}
"""


def parse(text: str) -> Scenario:
    """Return what a scenario's text means."""
    return parse_as(Scenario, text, file="s.yaml", check=misfits)[0]


def test_a_small_file_is_enough() -> None:
    """Workers and models; the rest has defaults."""
    scenario = parse(SMALL)
    assert scenario.workload.synthetic is not None
    fleet = fleet_of(scenario)
    assert (len(fleet.workers), fleet.models[0].slots) == (1, 4)
    assert fleet.workers[0].speeds[0].load_s == pytest.approx(2.0)
    assert fleet.workers[0].speeds[0].prefill_tokens_per_s == pytest.approx(15000)


def test_groups_of_workers_have_speeds_of_their_own() -> None:
    """Factors of the hardware's; a model that was measured keeps its own figures."""
    fleet = fleet_of(
        parse(
            """
workers:
  - {count: 2, vram_gb: 24}
  - {vram_gb: 48, speed: 2, load_speed: 4, max_loaded_models: 1}
models:
  - {name: a, size_gb: 4, decode_tokens_per_s: 50}
"""
        )
    )
    slow, _, quick = fleet.workers
    assert (quick.speeds[0].decode_tokens_per_s, quick.speeds[0].load_s) == (100, 1.5)
    assert (slow.speeds[0].load_s, quick.max_loaded_models) == (3.0, 1)
    assert slow.device != quick.device
    assert fleet.power == 4


def test_overrides_change_what_is_asked_and_nothing_else() -> None:
    """One more worker, eight slots."""
    scenario = overridden(parse(SMALL), Overrides(workers=2, slots=8, vram_gb=10, requests=5))
    fleet = fleet_of(scenario)
    assert [worker.memory_bytes for worker in fleet.workers] == [10 * 10**9] * 2
    assert fleet.models[0].slots == 8
    assert scenario.workload.synthetic is not None
    assert scenario.workload.synthetic.requests == 5
    assert overridden(scenario, Overrides()) == scenario


def test_workers_of_several_groups_cannot_be_counted_from_outside() -> None:
    """Which group would it be?"""
    scenario = parse(SMALL.replace("{vram_gb: 24}", "[{vram_gb: 24}, {vram_gb: 12}]"))
    with pytest.raises(ValueError, match="--workers: the scenario lists several groups"):
        overridden(scenario, Overrides(workers=3))


def test_a_trace_has_the_requests_that_it_has() -> None:
    """No number can be ordered."""
    scenario = parse(SMALL + "workload: {trace: a.csv}\n")
    with pytest.raises(ValueError, match="--requests: the workload is a trace"):
        overridden(scenario, Overrides(requests=3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml: workers: is missing"),
        (SMALL + "hardwear: {}\n", "s.yaml:5: hardwear: is not known here; did you mean hardware?"),
        (
            SMALL + "hardware: {load_second: 1}\n",
            "s.yaml:5: hardware.load_second: .* did you mean load_seconds?",
        ),
        (SMALL + "hardware: {rho: 1}\n", "s.yaml:5: hardware.rho: .* belongs under workload.synthetic"),
        (SMALL + "scheduling: {patiense: 1}\n", "scheduling.patiense: .* did you mean patience"),
        (SMALL + "workload: {}\n", "s.yaml:5: workload: needs one of trace .* and synthetic"),
        (SMALL + "workload: {trace: a, synthetic: {}}\n", "s.yaml:5: workload: needs one of"),
        (SMALL + "workload: {synthetic: {}, rate_scale: 2}\n", "write rho under synthetic instead"),
        (SMALL + "workload: {synthetic: {cv: 0}}\n", "workload.synthetic.cv: must be more than 0.*, not 0"),
        (SMALL + "workload: {synthetic: {requests: 1.5}}\n", "requests: must be a whole number"),
        ("workers: 4\nmodels: [{name: a, size_gb: 1}]\n", "s.yaml:1: workers: .* write keys such as count"),
        ("workers: []\nmodels: [{name: a, size_gb: 1}]\n", "s.yaml:1: workers: is empty: write at least 1"),
        ("workers: {vram_gb: 24}\nmodels: []\n", "s.yaml:2: models: is empty: write at least 1"),
        (
            "workers: {vram_gb: 24}\nmodels: [{name: a}]\n",
            r"^s.yaml:2: models\[0\].size_gb: is missing: [^\n]*$",
        ),
        (SMALL + "workload: {synthetic: {cv: 1e200}}\n", "workload.synthetic.cv: must be at most 100"),
        (SMALL + "workload: {synthetic: {prompt_scale: 1e300}}\n", "prompt_scale: must be at most 1000"),
        (SMALL + "hardware: {load_seconds: 1e300}\n", "hardware.load_seconds: must be at most 1000000000"),
        (
            SMALL.replace("size_gb: 2", "size_gb: 30"),
            r"s.yaml:4: models\[0\].size_gb: tiny:1b needs 30 GB and .* 24",
        ),
        (
            SMALL + '  - {name: "Tiny:1b", size_gb: 1}\n',
            r"s.yaml:4: models\[0\].name: two models have the name",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(text: str, message: str) -> None:
    """In the words of the configuration's own mistakes."""
    with pytest.raises(ConfigError, match=message):
        parse(text)
