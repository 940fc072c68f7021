"""The wire formats of clients: routes, request to `Facts`, error shapes, end-of-stream tests. Pure."""
