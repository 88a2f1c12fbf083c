"""GLIP-L: Swin-L, eight blocks; FourODs, GoldG and image-text pairs."""

from ..data.glip_l import dataloader
from ..models.glip_swin_l import model
from ..pretraining import inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glip_l"
train.max_iter = 1_000_000
# In float32 and without an average, unlike GLIP-T.
train.amp.enabled = False
train.ema.enabled = False
optimizer.weight_decay = 0.01
# Two thirds (0.667) of the way to each step of the learning rate.
train.weight_decay_steps = (0.667 * 0.67, 0.667 * 0.89)
dataloader.train.total_batch_size = 64
