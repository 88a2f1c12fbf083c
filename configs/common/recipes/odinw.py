"""Fine-tuning on one data set of ODinW, by the rules of GLIP's README."""

from detectron2.config import LazyCall as L

from glipv2_d2.engine.schedule import warmup_multi_step

from ..data.odinw import dataloader, odinw
from ..eval import evaluation, loader, model

odinw.test = "val"
dataloader.test = loader("odinw_${odinw.name}_${odinw.test}")
# The first stage stays as it is; with 256 tokens and fusion, memory is scarce.
model.backbone = dict(bottom_up=dict(frozen_stages=1))
model.neck = dict(use_checkpoint=True)
optimizer = dict(lr=1e-4, weight_decay=0.05)
# No schedule: the rate falls when the validation AP does not rise.
lr_multiplier = L(warmup_multi_step)(max_iter="${train.max_iter}", steps=(), warmup_iters=0)
train = dict(
    ema=dict(enabled=False),
    weight_decay_steps=(),
    best_metric="bbox/AP",
    patience=dict(lower_rate=3, stop=8),
    checkpointer=dict(max_to_keep=1),
)
