"""Who is in a hurry sends the signal twice: everything ends now, streams included, and nothing is left."""

from __future__ import annotations

import json
import signal
import time
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from gateway.http.turn import ENDING
from tests.support.aftermath import gateway_pid
from tests.support.corral import corral
from tests.support.models import counting_model
from tests.support.ollama_store import ENGINES
from tests.support.supervisor import children_of, eventually, exists

NOW_S: Final = 10.0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_sigterm_ends_everything_now(tmp_path: Path, engine: str) -> None:
    """An answer of minutes is under way; its client is told in its own protocol that it is not whole."""
    counting_model(tmp_path / "models", width=512, layers=6, feed_forward=2048)
    with (
        corral(tmp_path, engine=engine, workers=[{"name": "w0"}]) as running,
        closing(HTTPConnection(urlsplit(running.url).netloc, timeout=30)) as connection,
    ):
        order = {"model": "count", "prompt": "go", "options": {"num_predict": 1900}}
        connection.request("POST", "/api/generate", json.dumps(order))
        answer = connection.getresponse()
        assert answer.status == 200
        answer.readline()
        family = children_of(running.process.pid)
        family += [child for pid in family for child in children_of(pid)]
        assert gateway_pid(running) in family
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: any(line["event"] == "stopping" for line in running.log()), "it stops")
        started = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(NOW_S) == 1, "it tells that it was hurried"
        assert time.monotonic() - started < NOW_S
        eventually(lambda: not any(map(exists, family)), "everybody's end")
        with pytest.raises(IncompleteRead) as broken_off:
            answer.read()
        *_, last = broken_off.value.partial.splitlines()
        assert json.loads(last) == {"error": ENDING}
        connection.close()
