"""What the gateway asks of a worker for its own sake: load, unload, list. The only room that does."""
