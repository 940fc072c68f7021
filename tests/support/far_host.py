"""A host that can vanish without a word: a network namespace of the test's own, joined by a veth pair.

Needs root and `ip` (iproute2); says why where it cannot be made. Its addresses are of 198.18.0.0/15, which
is set aside for tests of networks.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count
from typing import Final

from tests.support.fake_ollama import FakeOllama
from tests.support.supervisor import ROOT

_NUMBERS: Final = count()


class NoNamespaceError(Exception):
    """This machine lets us make none; the text is the reason."""


@dataclass(frozen=True, slots=True)
class FarHost:
    """The other end of the cable."""

    namespace: str
    address: str
    near_address: str

    def vanish(self) -> None:
        """Let nothing out of it any more: no acknowledgement, no reset, no word that it is gone."""
        _ip("-n", self.namespace, "route", "add", "blackhole", f"{self.near_address}/32")

    @asynccontextmanager
    async def worker(self, name: str, *actions: str) -> AsyncIterator[FarWorker]:
        """Run a fake worker there that does this with the first requests."""
        argv = [sys.executable, "-m", "tests.support.run_fake_ollama", name, self.address, *actions]
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", self.namespace), *argv, stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        try:
            assert process.stdout is not None
            port = int(await process.stdout.readline())
            yield FarWorker(FakeOllama(name, host=self.address, port=port), process.stdout)
        finally:
            process.kill()
            await process.communicate()


@dataclass(frozen=True, slots=True)
class FarWorker:
    """The worker as seen from here."""

    description: FakeOllama
    """Never started here; tells URL and limits."""
    lines: asyncio.StreamReader

    async def until_running(self, number: int) -> None:
        """Wait until so many answers run there."""
        while int(await self.lines.readline()) != number:
            pass


@contextmanager
def far_host() -> Iterator[FarHost]:
    """Make a host; it is gone afterwards.

    Raises:
        NoNamespaceError: not here.
    """
    mark = (os.getpid() * 8 + next(_NUMBERS)) % 16384  # the kernel takes its time to remove one
    net = IPv4Address("198.18.0.0") + 4 * mark
    near, far = str(net + 1), str(net + 2)
    host = FarHost(f"corral-{mark}", far, near)
    near_link, far_link = f"cn{mark}", f"cf{mark}"
    _ip("netns", "add", host.namespace)
    try:
        _ip("link", "add", near_link, "type", "veth", "peer", "name", far_link, "netns", host.namespace)
        _ip("addr", "add", f"{near}/30", "dev", near_link)
        _ip("link", "set", near_link, "up")
        _ip("-n", host.namespace, "addr", "add", f"{far}/30", "dev", far_link)
        _ip("-n", host.namespace, "link", "set", far_link, "up")
        yield host
    finally:
        _ip("netns", "del", host.namespace)  # takes the pair with it


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)  # noqa: S607 -- of the PATH
    except FileNotFoundError as error:
        raise NoNamespaceError("there is no `ip` command (package iproute2)") from error
    except subprocess.CalledProcessError as error:
        raise NoNamespaceError(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from error
