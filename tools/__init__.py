"""What is run from a clone: `python -m tools.NAME`."""
