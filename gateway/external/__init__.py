"""Workers that somebody else runs: whether they are there, and how they stand in the fleet. Pure."""
