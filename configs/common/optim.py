"""GLIP's optimizer: AdamW, the language backbone at a tenth of the rate.

As in the official solver biases have twice the learning rate and no weight decay, while the
weights of norms decay like the rest.
"""

import torch
from detectron2.config import LazyCall as L

from glipv2_d2.engine.optim import get_glip_optimizer_params

optimizer = L(torch.optim.AdamW)(
    # params.model is set by `glip train`.
    params=L(get_glip_optimizer_params)(
        base_lr="${..lr}",
        weight_decay="${..weight_decay}",
        lr_by_prefix=dict(language_backbone=1e-5),
        weight_decay_norm=None,
        weight_decay_bias=0.0,
        bias_lr_factor=2.0,
    ),
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
    # True: one kernel steps all parameters of a group, on CUDA and CPU; a resumed run goes on as it
    # began.
    fused=None,
)
