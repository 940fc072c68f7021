"""Requests of real clients through faults: `scripts/bench chaos`."""
