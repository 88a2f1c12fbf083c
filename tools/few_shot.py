#!/usr/bin/env python
"""`glip few-shot` from a clone: python tools/few_shot.py --help."""

import sys

from glip_commands.main import main

if __name__ == "__main__":
    sys.exit(main(["few-shot", *sys.argv[1:]]))
