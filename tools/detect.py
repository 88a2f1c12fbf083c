#!/usr/bin/env python
"""The door to glipv2_d2.engine.detect, where everything is described (--help)."""

import sys

from glipv2_d2.engine.detect import main

if __name__ == "__main__":
    sys.exit(main())
