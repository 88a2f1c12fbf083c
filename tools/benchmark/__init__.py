"""Speed, memory and work of GLIP: `python -m tools.benchmark --help`; one idea a file."""
