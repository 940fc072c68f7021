"""Pure decisions of the supervisor: no clock, no sockets, no processes."""
