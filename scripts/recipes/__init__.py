"""Recipes of the demo and test models: small GGUF files, written on the machine from text of our own."""
