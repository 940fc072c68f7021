"""Which workers and models there are, what they hold, and how models get into memory and out of it."""
