"""How the memory of a device is divided among the workers that share it.

A pool is one GPU's memory, or the RAM that the CPU workers share. Whoever claims an amount gets it, as
long as the pool has it; what is left of the usable part is split evenly among those that say `auto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.contract.values import parse_percent, parse_size

_GPU_RESERVE_BYTES: Final = 2**30
_GPU_RESERVE_PERCENT: Final = 8
"""Kept free on each GPU, whichever is more: driver contexts and estimates that were too low."""
_RAM_PERCENT: Final = 80
"""What models may take of RAM; the rest is for the system, the gateway and the file cache."""


class NotEnoughMemoryError(ValueError):
    """More is claimed of a pool than it has; the text holds the numbers."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Memory that workers share."""

    label: str
    """For people: `GPU 0 (NVIDIA L4)` or `RAM`."""
    total_bytes: int
    usable_bytes: int
    """What `auto` may take."""


def gpu_pool(label: str, total_bytes: int) -> Pool:
    """Return the pool of one GPU; `auto` leaves 1 GiB or 8 % free, whichever is more."""
    reserve = max(_GPU_RESERVE_BYTES, -(-total_bytes * _GPU_RESERVE_PERCENT // 100))
    return Pool(label, total_bytes, max(0, total_bytes - reserve))


def ram_pool(total_bytes: int) -> Pool:
    """Return the pool of the CPU workers; `auto` takes 80 % of it."""
    return Pool("RAM", total_bytes, total_bytes * _RAM_PERCENT // 100)


def claimed_bytes(memory: str, *, total_bytes: int) -> int | None:
    """Return the bytes of a worker's `memory`, shares being of `total_bytes`; None for `auto`."""
    if memory == "auto":
        return None
    percent = parse_percent(memory)
    return parse_size(memory) if percent is None else total_bytes * percent // 100


def split_claim(claim_bytes: int | None, totals: tuple[int, ...]) -> tuple[int | None, ...]:
    """Return what a claim over several GPUs takes of each, in proportion to their memory.

    Rounded down, so that a claim of all there is fits.
    """
    whole = max(1, sum(totals))
    return tuple(None if claim_bytes is None else claim_bytes * total // whole for total in totals)


def divide(pool: Pool, claims: Mapping[str, int | None]) -> dict[str, int]:
    """Return the bytes of each worker that shares a pool, by the worker's name.

    Raises:
        NotEnoughMemoryError: the claims are more than the pool has, or leave nothing for `auto`.
    """
    fixed = sum(claim for claim in claims.values() if claim is not None)
    if fixed > pool.total_bytes:
        raise NotEnoughMemoryError(
            f"{pool.label} has {gib(pool.total_bytes)}, but {_claims_text(claims)}: claim less"
        )
    automatic = [name for name, claim in claims.items() if claim is None]
    share = (pool.usable_bytes - fixed) // len(automatic) if automatic else 0
    if automatic and share <= 0:
        reserve = gib(pool.total_bytes - pool.usable_bytes)
        raise NotEnoughMemoryError(
            f"nothing is left of {pool.label} for {', '.join(automatic)} (memory: auto): it has "
            f"{gib(pool.total_bytes)} with {reserve} kept free{_already(claims)}: write a size"
            + (" or claim less" if fixed else "")
        )
    return {name: share if claim is None else claim for name, claim in claims.items()}


def gib(size_bytes: int) -> str:
    """Return a size for people: `22.4 GiB`, and small ones as `512 MiB` or bytes."""
    if size_bytes >= 2**30:
        return f"{size_bytes / 2**30:.1f} GiB"
    return f"{size_bytes / 2**20:.0f} MiB" if size_bytes >= 2**20 else f"{size_bytes} bytes"


def _claims_text(claims: Mapping[str, int | None]) -> str:
    fixed = [(name, claim) for name, claim in claims.items() if claim is not None]
    parts = ", ".join(f"{name} {gib(claim)}" for name, claim in fixed)
    if len(fixed) == 1:
        return f"{fixed[0][0]} claims {gib(fixed[0][1])}"
    return f"{gib(sum(claim for _, claim in fixed))} are claimed ({parts})"


def _already(claims: Mapping[str, int | None]) -> str:
    return f" and {_claims_text(claims)}" if any(claim is not None for claim in claims.values()) else ""
