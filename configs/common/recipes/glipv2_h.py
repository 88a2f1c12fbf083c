"""GLIPv2-H: CoSwin-H, GLIPv2-B's data and schedule in a single stage (Appendix D.1)."""

from ..data.glipv2_b import dataloader
from ..models.glipv2_coswin_h import model
from ..pretraining import inference, lr_multiplier, optimizer, train
from ..stages import Recipe

train.output_dir = "./output/glipv2_h"
train.max_iter = 1_000_000
dataloader.train.total_batch_size = 64
optimizer.params.lr_by_prefix = dict()  # 1e-4 for the language backbone, too
recipe = Recipe(dataloader, inference, lr_multiplier, model, optimizer, train)
