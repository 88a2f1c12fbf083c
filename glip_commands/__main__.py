"""`python -m glip_commands`: `glip` where no script is installed, or for torchrun."""

import sys

from glip_commands.main import main

if __name__ == "__main__":
    sys.exit(main())
