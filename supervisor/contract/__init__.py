"""The one door between supervisor and gateway: pure types and the wire rules both must agree on.

Nothing here does I/O, reads a clock or the environment, or logs.
"""
