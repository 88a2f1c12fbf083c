"""Checkpoints: reading and writing files, and whether they fit a model."""

from .building import build_for_weights, config_for_weights, random_parts
from .checkpointer import GLIPCheckpointer, load_weights
from .file_kinds import is_export
from .fit import check_weights, published_config
from .formats import WEIGHT_FORMATS, WeightFormat, find_format
from .formats.glip import OfficialGlip, convert_official_glip
from .frozen_vocabulary import freeze_vocabulary, frozen_words, with_frozen_vocabulary
from .loading import converted
from .merging import merge_weights
from .prompt_file import fingerprint, load_prompt, read_prompt_file, save_prompt
from .reading import read_checkpoint, read_safetensors_metadata, weight_names
from .resuming import FoundCheckpoint, checkpoints_in, find_checkpoint
from .writing import release_state, save_safetensors

__all__ = [
    "WEIGHT_FORMATS",
    "FoundCheckpoint",
    "GLIPCheckpointer",
    "OfficialGlip",
    "WeightFormat",
    "build_for_weights",
    "check_weights",
    "checkpoints_in",
    "config_for_weights",
    "convert_official_glip",
    "converted",
    "find_checkpoint",
    "find_format",
    "fingerprint",
    "freeze_vocabulary",
    "frozen_words",
    "is_export",
    "load_prompt",
    "load_weights",
    "merge_weights",
    "published_config",
    "random_parts",
    "read_checkpoint",
    "read_prompt_file",
    "read_safetensors_metadata",
    "release_state",
    "save_prompt",
    "save_safetensors",
    "weight_names",
    "with_frozen_vocabulary",
]
