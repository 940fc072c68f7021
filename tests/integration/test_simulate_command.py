from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import main
from supervisor.contract.command import EXIT_OK, EXIT_USAGE

SCENARIO = """
workers: {count: 2, vram_gb: 10}
models:
  - {name: "small:1b", size_gb: 2}
  - {name: "large:7b", size_gb: 7}
workload:
  synthetic: {requests: 200, rho: 0.2, tokens: lengths.csv}
"""
KEYS = {"name", "capacity", "ttft_s", "latency_s", "loads", "share_ttft_le", "max_wait_s", "jain"}


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Return a small scenario with lengths beside it."""
    (tmp_path / "lengths.csv").write_text("in_tokens,out_tokens\n400,60\n900,20\n")
    file = tmp_path / "s.yaml"
    file.write_text(SCENARIO)
    return file


def simulated(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Return what the command prints for scripts."""
    assert main(["simulate", *map(str, arguments), "--json"]) == EXIT_OK
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return what the command says to people when it does not even begin."""
    assert main(["simulate", *map(str, arguments)]) == EXIT_USAGE
    return capsys.readouterr().err


def test_all_policies_are_reported_for_scripts(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the keys that are promised, and no others."""
    report = simulated(capsys, scenario, "--policy", "all")
    assert set(report) == {"policies"}
    assert [set(entry) for entry in report["policies"]] == [KEYS] * 10
    assert all(entry["capacity"] is None for entry in report["policies"])


def test_the_same_seed_prints_the_same_bytes(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In however many processes; another seed prints others."""
    texts = []
    for seed, jobs in (("3", "1"), ("3", "2"), ("4", "1")):
        options = ["--policy", "corral", "--policy", "random", "--seed", seed, "--jobs", jobs, "--json"]
        assert main(["simulate", str(scenario), *options]) == EXIT_OK
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_capacity_is_the_mean_over_seeds(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of each seed's own."""
    asked = [scenario, "--policy", "zero-swap", "--capacity"]
    one, other = (simulated(capsys, *asked, "--seed", seed) for seed in (5, 6))
    both = simulated(capsys, *asked, "--seed", 5, "--seeds", 2)
    capacities = [report["policies"][0]["capacity"] for report in (one, other, both)]
    assert capacities[2] == pytest.approx((capacities[0] + capacities[1]) / 2, abs=1e-3)


def test_people_get_a_table(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And no progress bar where standard error is no terminal."""
    assert main(["simulate", str(scenario), "--policy", "corral", "--policy", "zero-swap"]) == EXIT_OK
    printed = capsys.readouterr()
    assert printed.out.startswith("Offered load 0.20 on 2 workers, 2 models.\n")
    assert [line.split()[0] for line in printed.out.splitlines()[2:]] == ["POLICY", "corral", "zero-swap"]
    assert not printed.err


def test_overrides_answer_what_if(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four workers wait less than two for the same requests."""
    crowded = simulated(capsys, scenario, "--rho", "0.8", "--workers", "1")
    roomy = simulated(capsys, scenario, "--rho", "0.2", "--workers", "4")
    assert roomy["policies"][0]["ttft_s"]["p95"] < crowded["policies"][0]["ttft_s"]["p95"]


def a_log(file: Path, models: list[str]) -> Path:
    """Write a log of answered requests, one a second, between other lines."""
    lines = ["corral: listening", json.dumps({"event": "worker is ready"})]
    for at, model in enumerate(models):
        entry = {"event": "request", "started_unix": 1e9 + at, "model": model, "tenant": "ann"}
        entry |= {"prompt_tokens": 100, "tokens": 20, "status": 200, "outcome": "done", "first_byte_s": 0.5}
        lines.append(json.dumps(entry))
    file.write_text("\n".join(lines))
    return file


def test_a_log_is_replayed_on_another_fleet(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was left aside, and what was measured, is told."""
    log = a_log(tmp_path / "corral.log", ["small:1b", "large:7b"] * 20)
    report = simulated(capsys, scenario, "--from-log", log, "--workers", 3, "--slots", 8)
    assert report["log"] == {
        "requests": 40,
        "skipped": {"another event": 1, "no JSON": 1},
        "measured_ttft_s": {"p50": 0.5, "p95": 0.5, "p99": 0.5},
    }
    assert report["policies"][0]["loads"] == 2
    assert main(["simulate", str(scenario), "--from-log", str(log)]) == EXIT_OK
    assert "40 requests of the log are replayed, 2 lines left aside." in capsys.readouterr().out


def test_a_log_says_how_many_of_its_answers_tell_when_they_began(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Answers that were not streamed came all at once."""
    log = a_log(tmp_path / "corral.log", ["small:1b"] * 20)
    first, second, *others = log.read_text().splitlines()
    whole = [line.replace('"status": 200', '"status": 200, "stream": false') for line in others[:5]]
    log.write_text("\n".join([first, second, *whole, *others[5:]]))
    assert main(["simulate", str(scenario), "--from-log", str(log)]) == EXIT_OK
    assert "first byte of the 15 that tell it, being streamed: p50 0.50 s" in capsys.readouterr().out


def test_a_trace_is_replayed(scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its file stands beside the scenario."""
    (tmp_path / "trace.csv").write_text(
        "t_s,tenant,model,in_tokens,out_tokens\n" + "".join(f"{at},a,small:1b,50,9\n" for at in range(50))
    )
    head = SCENARIO.partition("workload")[0]
    scenario.write_text(head + "workload: {trace: trace.csv, rate_scale: 3}\n")
    assert simulated(capsys, scenario)["policies"][0]["share_ttft_le"]["10"] == 1.0


def test_requests_of_one_moment_are_replayed_as_they_are(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have no rate, which is told to whoever wants to change it; in however many processes."""
    (tmp_path / "trace.csv").write_text("\ufefft_s,model,in_tokens,out_tokens\n7,small:1b,50,9\n", "utf-8")
    scenario.write_text(SCENARIO.partition("workload")[0] + "workload: {trace: trace.csv}\n")
    assert main(["simulate", str(scenario)]) == EXIT_OK
    assert capsys.readouterr().out.startswith("All requests at once on 2 workers, 2 models.\n")
    for option in (["--capacity"], ["--rho", "0.5", "--policy", "all", "--jobs", "2"]):
        said = refused(capsys, scenario, *option)
        assert said.endswith(f"{scenario}: all requests come at one moment, so there is no rate to change\n")


def test_a_process_that_makes_no_request_is_told(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer of them than parts with a popularity of their own."""
    scenario.write_text(SCENARIO.replace("requests: 200", "requests: 3, shifts: 9"))
    assert "requests: 3 in 10 parts come to none at all: ask for more" in refused(capsys, scenario)


def test_what_cannot_be_used_is_told_with_its_place(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """File, line and key; the exit code is that of bad usage."""
    unknown = a_log(tmp_path / "corral.log", ["nobody:9b"])
    assert f"{unknown}: 'nobody:9b', which 1 of the requests ask for, is not among `models`" in refused(
        capsys, scenario, "--from-log", unknown
    )
    (tmp_path / "empty.log").write_text("nothing\n")
    assert "no line can be replayed (1 no JSON)" in refused(
        capsys, scenario, "--from-log", tmp_path / "empty.log"
    )
    assert "models[1].size_gb: large:7b needs 7 GB" in refused(capsys, scenario, "--vram", "5")
    assert "No such file" in refused(capsys, tmp_path / "none.yaml")
    assert "give a SCENARIO.yaml, or --fit FILE alone" in refused(capsys, scenario, "--fit", unknown)
    (tmp_path / "lengths.csv").unlink()
    assert f"{scenario}:7: workload.synthetic.tokens: " in refused(capsys, scenario)
