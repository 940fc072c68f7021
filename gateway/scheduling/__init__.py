"""The policy: who runs where, what is loaded and what is evicted. Pure; `scheduler.py` is the entrance."""
