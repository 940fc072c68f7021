"""Keeps a SIGHUP that comes too early until somebody listens. What one means: `contract/shell/hangup.py`."""

from __future__ import annotations

import signal


def hold_hangups() -> None:
    """Keep a SIGHUP that comes before anybody listens for it; it would end a Corral that just starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def let_hangups_in() -> None:
    """Have one that was kept, and all to come, heard; processes started from now on hear theirs, too."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
