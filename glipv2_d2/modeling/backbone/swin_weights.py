"""ImageNet weights for SwinBackbone, in the names of the Swin authors or of timm."""

from torch import nn

from ...checkpoint.formats.swin import convert_imagenet_swin
from ...errors import CheckpointError
from .pretrained import read_pretrained

__all__ = ["load_imagenet_swin"]


def load_imagenet_swin(backbone: nn.Module, source: str) -> None:
    """Fill a SwinBackbone, all but its output norms, which ImageNet does not train.

    Args:
        source: a checkpoint file (the authors' .pth with "model"), or the name of a timm model.

    Raises:
        CheckpointError: see `read_pretrained`; or they are of another size of Swin.
    """
    state = convert_imagenet_swin(read_pretrained(source, "the Swin"))
    own = backbone.state_dict()
    wanted = {name for name in own if not name.startswith("out_norms.")}
    differing = wanted.symmetric_difference(state)
    differing |= {n for n in wanted & set(state) if state[n].shape != own[n].shape}
    if differing:
        raise CheckpointError(
            f"'{source}' holds another Swin: {len(differing)} of {len(wanted)} weights differ in "
            f"name or shape, for example {', '.join(sorted(differing)[:3])}"
        )
    backbone.load_state_dict(state, strict=False)
