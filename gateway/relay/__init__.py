"""Carries a granted request to its worker and the answer back."""
