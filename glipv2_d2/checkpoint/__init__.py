"""Checkpoints: reading and writing files, and whether they fit a model."""

from glipv2_d2.checkpoint.checkpointer import GLIPCheckpointer, check_weights, load_weights
from glipv2_d2.checkpoint.reading import (
    CheckpointError,
    read_checkpoint,
    read_safetensors_metadata,
)
from glipv2_d2.checkpoint.writing import release_state, save_safetensors

__all__ = [
    "CheckpointError",
    "GLIPCheckpointer",
    "check_weights",
    "load_weights",
    "read_checkpoint",
    "read_safetensors_metadata",
    "release_state",
    "save_safetensors",
]
