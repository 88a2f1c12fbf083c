"""What is run from a clone: `python -m tools.NAME`."""

import warnings

# Of third parties, on every start of every process.
warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
