"""A pooled connection that the worker has closed: no failure at all."""

from __future__ import annotations

from pathlib import Path

from tests.support.faulty import stage
from tests.support.gateway import until


async def test_nobody_notices(tmp_path: Path) -> None:
    """The request goes out again at once on a connection of its own; nothing counts against the worker.

    The worker closes every connection on which a second request comes, as one does whose keep-alive time
    is over in that moment. There is no other worker, and so many failures would take it out.
    """
    async with stage(tmp_path, ("stale",), slots=1) as corral:
        told = [await corral.ask() for _ in range(8)]
        fleet = await corral.fleet()
        worker = corral.workers[0]
        await until(lambda: worker.count() > 8, "some requests found a closed connection")
        assert all(one.well for one in told)
        log = corral.log()
        assert fleet["w0"]["left_out"] == ""
        assert not [line for line in log if "failed_attempts" in line]
