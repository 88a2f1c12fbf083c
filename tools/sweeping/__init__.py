"""Parts of tools/odinw_sweep.py: what is to be run, running it, the tables."""
