#!/usr/bin/env python
"""`glip few-shot` from a clone: python tools/few_shot.py --help."""

import sys

from glip_commands.main import main as glip
from glipv2_d2.errors import command


@command
def main() -> int:
    """Pass the arguments on; returns the exit status."""
    return glip(["few-shot", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
