#!/usr/bin/env python
"""The door to glip_commands.install_detectron2, where everything is described (--help)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # nothing is installed yet

from glip_commands.install_detectron2 import main

if __name__ == "__main__":
    sys.exit(main())
