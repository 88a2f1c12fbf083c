"""GLIPv2-T, first stage: all three losses on Objects365, GoldG and Cap4M (Appendix D.1).

1e-4, and 1e-5 for BERT, as GLIP-T.
"""

from ..data.glipv2_t import dataloader
from ..models.glipv2_swin_t import model
from ..pretraining import inference, lr_multiplier, optimizer, train
from ..stages import Recipe

train.output_dir = "./output/glipv2_t"
train.max_iter = 330_000
dataloader.train.total_batch_size = 64
recipe = Recipe(dataloader, inference, lr_multiplier, model, optimizer, train)
