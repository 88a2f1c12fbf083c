"""Pseudo labels: boxes that a trained model finds for what texts name, for training on them."""
