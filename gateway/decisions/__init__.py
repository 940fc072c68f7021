"""Why requests went where they went, from memory and from the log, and how one that waits is told of."""
