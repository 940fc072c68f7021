"""What lies in a model store, read from headers only."""
