"""The only place of the supervisor that makes system calls."""
