#!/usr/bin/env python
"""`glip train` where Detectron2's users look for it: python train_net.py --help."""

import sys

from glip_commands.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
