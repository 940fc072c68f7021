"""Whether workers can be relied on: seen in clients' requests, asked where there are none."""
