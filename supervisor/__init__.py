"""Owns processes and GPUs: inventory, pinning, start, readiness, restart, logs.

Knows nothing of requests, queues or residency; those are the gateway's.
"""
