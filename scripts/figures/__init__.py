"""Figures of a running Corral: what it needs, what it adds, how it scales."""
