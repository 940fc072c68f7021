"""What clients and operators of a whole Corral see when a GPU fails.

The GPUs are the stand-in's, and the embedded engine computes as if on them; all else is real.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import ollama
import pytest

from tests.support.aftermath import assert_all_is_back
from tests.support.corral import COMMAND, Corral, corral, plain_environment
from tests.support.fake_nvml import LiveGpus, build_fake_nvml, environment
from tests.support.models import counting_model
from tests.support.supervisor import eventually, exists

GO = [{"role": "user", "content": "go"}]


@dataclass(frozen=True, slots=True)
class Box:
    """A Corral over two GPUs, on which the embedded engine computes as if it could."""

    corral: Corral
    gpus: LiveGpus

    def count(self, to: int) -> str:
        """Return an answer."""
        with closing(ollama.Client(self.corral.url)) as client:
            reply = client.chat("count", GO, options={"num_predict": to, "temperature": 0})
        return str(reply.message.content)

    def words(self) -> Iterator[str]:
        """Yield the words of a long answer as they come."""
        with closing(ollama.Client(self.corral.url)) as client:
            for part in client.chat(
                "count", GO, stream=True, options={"num_predict": 1900, "temperature": 0}
            ):
                yield part.message.content or ""

    def holder(self) -> str:
        """Return the worker that holds the model."""
        return str(next(w["worker"] for w in self.corral.ps()["workers"] if w["resident"]))

    def ps(self) -> str:
        """Return what `corral ps` prints for people."""
        argv = [COMMAND, "ps", "--runtime-dir", str(self.corral.directory / "run")]
        return subprocess.check_output(argv, text=True, timeout=20)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """Run it with a model that takes its time."""
    counting_model(tmp_path / "models", width=512, layers=6, feed_forward=2048)
    gpus = LiveGpus(tmp_path / "gpus")
    environ = plain_environment() | environment(build_fake_nvml(tmp_path), gpus=2) | gpus.variables()
    with corral(tmp_path, environ=environ) as running:
        yield Box(running, gpus)


def test_a_card_that_falls_off_the_bus_costs_no_request(box: Box) -> None:
    """The model is loaded by the other worker; the card's own rests and says why; no slot is lost."""
    assert box.count(3) == "1 2 3"
    lost = box.holder()
    pid = box.corral.worker(lost)["pid"]
    box.gpus.xid(int(lost[-1]), 79)
    eventually(lambda: box.corral.worker(lost)["state"] == "quarantined", "the quarantine")
    assert not exists(pid)
    assert box.count(4) == "1 2 3 4"
    assert box.holder() != lost
    assert f"{lost} is quarantined: GPU {lost[-1]} NVIDIA L4: Xid 79, it has fallen off the bus" in box.ps()
    assert_all_is_back(box.corral, but=[lost])


def test_a_card_that_fails_in_the_middle_of_an_answer_is_told(box: Box) -> None:
    """The words so far are right, the end is an error and no silence; the next answer is another worker's."""
    words: list[str] = []
    with pytest.raises(ollama.ResponseError, match="broke off"):
        read_until_it_fails(box, words)
    numbers = [int(word) for word in "".join(words).split()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert box.count(3) == "1 2 3"
    lost = next(w["worker"] for w in box.corral.ps()["workers"] if w["state"] == "quarantined")
    assert_all_is_back(box.corral, but=[lost])


def read_until_it_fails(box: Box, words: list[str]) -> None:
    """Read an answer, and let the card under it fail after the third word."""
    assert box.count(1) == "1"
    number = int(box.holder()[-1])  # asked before: the answer does not wait for it
    for word in box.words():
        words.append(word)
        if len(words) == 3:
            box.gpus.xid(number, 95)


def test_memory_that_others_take_is_a_note_for_the_operator(box: Box) -> None:
    """With what, who and how much; nobody is ended."""
    given = box.corral.worker("gpu0")["memory_bytes"]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        box.gpus.set(pid_0=stranger.pid, mib_0=12 * 1024)
        box.gpus.xid(0, 31)  # wakes the watch, which would look by itself after some seconds
        eventually(lambda: box.corral.worker("gpu0")["withheld_bytes"], "less memory")
        assert "NOTE gpu0: GPU 0 NVIDIA L4: Xid 31" in box.ps()
        assert f"(pid {stranger.pid}) holds 12.0 GiB of its memory" in box.ps()
        assert box.corral.worker("gpu0")["memory_bytes"] < given
        assert box.corral.worker("gpu0")["incarnation"] == 1
        os.kill(stranger.pid, signal.SIGTERM)
    assert box.count(2) == "1 2"
