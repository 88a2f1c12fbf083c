"""CLIP's weights for the image towers of clip_visual.py, in the layouts they are shared in."""

import zipfile
from pathlib import Path

import torch
from timm.models import byobnet, vision_transformer
from torch import nn

from ...errors import CheckpointError
from .pretrained import read_pretrained

__all__ = ["load_clip_visual"]

# Of a tower alone, without the rest of CLIP: `clip.visual.state_dict()`.
_TOWER_ALONE = ("class_embedding", "layer1.0.conv1.weight")
# The pooling and the projection into the space that CLIP shares with the text.
_HEADS = ("head.", "fc_norm.")
_PATCHES = ("visual.conv1.weight", "patch_embed.proj.weight")


def load_clip_visual(trunk: nn.Module, source: str, name: str) -> None:
    """Fill a tower of timm with CLIP's weights; the position embeddings of a vision transformer
    are interpolated to the tower's own grid.

    Args:
        trunk: timm's ByobNet or VisionTransformer; every weight of it is overwritten.
        source: a checkpoint file in the layout of OpenAI or OpenCLIP ("visual.conv1.weight", ...,
            with or without the text side), or of timm; or the name of a timm model with its tag
            ("resnet50_clip.openai"), which timm fetches.
        name: timm's name of the trunk, for messages.

    Raises:
        CheckpointError: see `read_pretrained`; or they are a TorchScript archive, or the
            weights of another tower.
    """
    _refuse_torchscript(source)
    own = trunk.state_dict()
    state = _as_timm(read_pretrained(source, "CLIP"), trunk)
    _check_fit(own, state, source, name)
    trunk.load_state_dict(state)


def _refuse_torchscript(source: str) -> None:
    """OpenAI's own files: archives of a program, which reading would mean to run."""
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as archive:
        scripted = any(Path(name).name == "constants.pkl" for name in archive.namelist())
    if scripted:
        raise CheckpointError(
            f"'{source}' is a TorchScript archive, which holds code and is not loaded. If you "
            'trust it, save its weights alone: python -c "import torch; torch.save(torch.jit.load('
            f"'{source}', map_location='cpu').state_dict(), 'clip.pth')\""
        )


def _as_timm(state: dict[str, torch.Tensor], trunk: nn.Module) -> dict[str, torch.Tensor]:
    """timm's names; what the tower does not need is left out."""
    if any(name in state for name in _TOWER_ALONE):
        state = {f"visual.{name}": value for name, value in state.items()}
    if isinstance(trunk, vision_transformer.VisionTransformer):
        patches = next((v for n, v in state.items() if n.endswith(_PATCHES)), None)
        state = vision_transformer.checkpoint_filter_fn(state, trunk)
        if patches is not None:
            # timm resizes patches of another side; those of another tower are to be an error.
            state["patch_embed.proj.weight"] = patches
    else:
        state = byobnet.checkpoint_filter_fn(state, trunk)
    return {
        name: value
        for name, value in state.items()
        if not name.startswith(_HEADS) and not name.endswith("num_batches_tracked")
    }


def _check_fit(
    own: dict[str, torch.Tensor], state: dict[str, torch.Tensor], source: str, name: str
) -> None:
    lacking, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    other = [n for n in own if n in state and state[n].shape != own[n].shape]
    if other:
        first = other[0]
        shapes = tuple(state[first].shape), tuple(own[first].shape)
        detail = f"{first} is {shapes[0]} in the file and {shapes[1]} in the model"
    elif lacking:
        detail = f"the file has no {lacking[0]}"
    elif unknown:
        detail = f"the model has no {unknown[0]}"
    else:
        return
    differing = len(lacking) + len(unknown) + len(other)
    raise CheckpointError(
        f"'{source}' does not fit the CLIP tower {name}: {detail} ({differing} weights differ). "
        "Set `name` to the timm model of these weights (timm.list_models('*clip*')), or take "
        f"the weights of {name}."
    )
