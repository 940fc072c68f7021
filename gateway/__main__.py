"""`python -m gateway`: the gateway alone, as the supervisor starts it."""

from __future__ import annotations

import argparse
import sys

from gateway.commands import gateway


def main() -> int:
    """Parse the options of `corral gateway` and run it."""
    parser = argparse.ArgumentParser(prog="corral gateway", description=gateway.HELP)
    gateway.add_arguments(parser)
    return gateway.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
