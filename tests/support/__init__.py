"""Furniture that tests share: fakes that are stricter than the real thing, and recipes."""
