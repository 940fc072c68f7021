"""A discrete-event simulator of a box of GPUs, for comparing ways to route requests.

It drives the gateway's own scheduler with its real events and effects, beside the policies that others
use, on a hardware model whose every constant stands in the scenario. Pure: no clock, no files; chance
comes from seeds.
"""
