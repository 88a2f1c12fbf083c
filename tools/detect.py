#!/usr/bin/env python
"""The door to glipv2_d2.engine.detect, where everything is described (--help)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a bare clone works too

from glipv2_d2.engine.detect import main

if __name__ == "__main__":
    sys.exit(main())
