from __future__ import annotations

import resource

from gateway import host


def test_gateway_may_hold_as_many_connections_as_its_user() -> None:
    """Not the 1024 that a service begins with."""
    before = soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), most))
    try:
        host.raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
