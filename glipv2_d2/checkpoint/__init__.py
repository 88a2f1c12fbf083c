"""Checkpoints: reading and writing files, and whether they fit a model."""

from ..errors import CheckpointError
from .building import (
    build_for_weights,
    config_for_weights,
    random_parts,
)
from .checkpointer import (
    GLIPCheckpointer,
    check_weights,
    convert_on_load,
    load_weights,
)
from .formats.glip import (
    convert_official_glip,
    explain_left_out,
    is_official_glip,
    published_config,
)
from .formats.unicl import convert_unicl, explain_left_out_of_unicl, is_unicl
from .reading import (
    read_checkpoint,
    read_safetensors_metadata,
    weight_names,
)
from .resuming import FoundCheckpoint, checkpoints_in, find_checkpoint
from .writing import release_state, save_safetensors

__all__ = [
    "CheckpointError",
    "FoundCheckpoint",
    "GLIPCheckpointer",
    "build_for_weights",
    "check_weights",
    "checkpoints_in",
    "config_for_weights",
    "convert_official_glip",
    "convert_on_load",
    "convert_unicl",
    "explain_left_out",
    "explain_left_out_of_unicl",
    "find_checkpoint",
    "is_official_glip",
    "is_unicl",
    "load_weights",
    "published_config",
    "random_parts",
    "read_checkpoint",
    "read_safetensors_metadata",
    "release_state",
    "save_safetensors",
    "weight_names",
]
