"""What the pre-trainings of GLIP and GLIPv2 share: GLIP's optimizer, schedule and average."""

from .optim import optimizer
from .schedule import lr_multiplier
from .train import inference, train

train.ema.warmup = False
