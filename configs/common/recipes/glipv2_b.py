"""GLIPv2-B, first stage: all three losses on FiveODs, GoldG, CC15M and SBU (Appendix D.1)."""

from ..data.glipv2_b import dataloader
from ..models.glipv2_swin_b import model
from ..pretraining import inference, lr_multiplier, optimizer, train
from ..stages import Recipe

train.output_dir = "./output/glipv2_b"
train.max_iter = 1_000_000
dataloader.train.total_batch_size = 64
optimizer.params.lr_by_prefix = dict()  # 1e-4 for the language backbone, too
recipe = Recipe(dataloader, inference, lr_multiplier, model, optimizer, train)
