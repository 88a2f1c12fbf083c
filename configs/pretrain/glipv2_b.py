"""GLIPv2-B, first stage: all three losses on FiveODs, GoldG, CC15M and SBU (Appendix D.1).

It starts from UniCL's Swin-B and text transformer: set train.init_checkpoint to their file. The
authors lower the learning rate where the zero-shot AP on COCO saturates; the steps here are those
they state.
"""

from ..common.data.glipv2_b import dataloader
from ..common.models.glipv2_swin_b import model
from .glip_t_a import inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glipv2_b"
train.max_iter = 1_000_000
dataloader.train.total_batch_size = 64
optimizer.params.lr_by_prefix = dict()  # 1e-4 for the language backbone, too
