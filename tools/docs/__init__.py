"""The documentation site: `python -m tools.docs` builds it into `output/site`."""
