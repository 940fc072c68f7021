"""Owns requests, slots and residency: queues, routing, loads, evictions, relaying, API surfaces.

Of the supervisor it imports `supervisor.contract` and nothing else; a test enforces it.
"""
