"""GLIP-T as its config describes it, with the generated weights."""

import torch
from detectron2.config import instantiate
from torch import nn

from glipv2_d2.checkpoint import convert_official_glip
from glipv2_d2.config import get_config

from .generated_weights import generated_state

CONFIG = "pretrain/glip_t.py"


def build_model(device: str = "cpu") -> nn.Module:
    """The model of `configs/pretrain/glip_t.py`, nothing random in it, in evaluation mode.

    It needs no network: all weights are generated, BERT's too. Dropout of every kind is off, in
    training as well, because the stored gradients were made so.

    Args:
        device: where it goes. On CUDA "float32" means float32: TF32, whose ten bits are coarser
            than the tolerance, is turned off for the process.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    config = get_config(CONFIG).model
    config.language_backbone.pretrained = False
    remove_randomness(config)
    model = instantiate(config)
    model.load_state_dict(convert_official_glip(generated_state("glip_t")))
    for module in model.modules():
        if isinstance(module, nn.Dropout):  # BERT's own: its config is not ours
            module.p = 0.0
    return model.to(torch.device(device)).eval()


def remove_randomness(config) -> None:
    """Dropout, stochastic depth and DropBlock of a model config to 0, in place."""
    config.neck.dropout = 0.0
    config.backbone.drop_block = 0.0
    config.backbone.bottom_up.drop_path_rate = 0.0
