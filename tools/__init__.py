"""What is run from a clone: `python -m tools.NAME`."""

import glip_commands  # noqa: F401  (it silences what third parties warn of at every start)
