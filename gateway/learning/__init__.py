"""What the scheduler has learned, kept over restarts."""
