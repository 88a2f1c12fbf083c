"""CLOC's training from scratch (Appendix A, Table A); B/16 by itself."""

from ..data.cloc import dataloader
from ..models.cloc_b16 import model
from ..optim import optimizer
from ..schedule import lr_multiplier_cosine as lr_multiplier
from ..train import inference, train

train.max_iter = 439_087
train.ema.enabled = False

optimizer.lr = 5e-4
optimizer.betas = (0.9, 0.98)
optimizer.weight_decay = 0.2
optimizer.params.lr_by_prefix = dict()
optimizer.params.weight_decay_norm = 0.0
optimizer.params.bias_lr_factor = 1.0
lr_multiplier.warmup_iters = 2000
lr_multiplier.end_factor = 0.0

# The long side; the model pads the image to a square.
inference.min_size = "${model.visual.image_size}"
inference.max_size = "${model.visual.image_size}"
