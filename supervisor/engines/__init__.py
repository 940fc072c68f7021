"""The inference engines Corral can run: one file or folder each, and one line in the registry."""
