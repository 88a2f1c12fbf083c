"""Where an image tower's pretrained weights come from: a file, or timm by a model's name."""

from pathlib import Path

import timm
import torch

from ...checkpoint import read_checkpoint
from ...errors import CheckpointError

__all__ = ["read_pretrained"]


def read_pretrained(source: str, kind: str) -> dict[str, torch.Tensor]:
    """The state dict of the weights `source`, in the names that they have there.

    Args:
        source: a checkpoint file, or the name of a timm model, which timm fetches.
        kind: what the weights are of, for messages: "the Swin".

    Raises:
        CheckpointError: it is neither, the file is damaged, or timm cannot get the weights.
    """
    if Path(source).is_file():
        return read_checkpoint(source)["model"]
    if not timm.is_model(source):
        raise CheckpointError(
            f"The pretrained weights of {kind}, '{source}', are neither a file nor a timm model."
        )
    try:
        return timm.create_model(source, pretrained=True).state_dict()
    # OSError: the hub's client, without network; the others: timm has no such weights.
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"timm cannot get the pretrained weights of {kind}, '{source}' ({reason}). Give a "
            "local file with model.backbone.bottom_up.pretrained=FILE, or run once where the "
            "Hugging Face hub can be reached, which keeps them; False starts from random weights."
        ) from error
