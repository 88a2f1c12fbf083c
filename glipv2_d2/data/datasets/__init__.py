"""Readers of data formats, and the data sets that are known by name."""
