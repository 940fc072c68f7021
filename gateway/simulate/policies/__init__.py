"""Ways to route requests: Corral's own and those that others use, behind one protocol."""
