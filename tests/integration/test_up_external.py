from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.corral import COMMAND, corral
from tests.support.supervisor import PATIENCE_S, ROOT


@pytest.fixture
def far_url() -> Iterator[str]:
    """Return the address of a fake worker that somebody else started; it holds the model `count`."""
    argv = [sys.executable, "-m", "tests.support.run_fake_ollama", "far", "127.0.0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def test_corral_up_serves_its_own_workers_and_external_ones_behind_one_port(
    tmp_path: Path, far_url: str
) -> None:
    """A model that only the external one has is answered there, and `corral ps` shows both."""
    external = [{"name": "far", "url": far_url, "memory": "1GiB"}]
    with corral(tmp_path, workers=[{"name": "own"}], external=external) as running:
        body = json.dumps({"model": "count", "prompt": "x"}).encode()
        request = urllib.request.Request(f"{running.url}/api/generate", body)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            assert response.headers["X-Corral-Worker"] == "far"
            assert '"done":true' in response.read().decode()
        argv = [COMMAND, "ps", "--runtime-dir", str(tmp_path / "run")]
        lines = subprocess.check_output(argv, text=True, timeout=PATIENCE_S).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["own", "far"]
    assert lines[2].split()[1:4] == [far_url, "ready", "count:latest"]
