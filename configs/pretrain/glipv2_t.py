"""GLIPv2-T, first stage: all three losses on Objects365, GoldG and Cap4M (Appendix D.1).

Like GLIP-T it starts from an ImageNet Swin and BERT: set model.backbone.bottom_up.pretrained to
"swin_tiny_patch4_window7_224" (through timm) or to the Swin authors' file. The authors lower the
learning rate where the zero-shot AP on COCO saturates; the steps here are those they state.
"""

from ..common.data.glipv2_t import dataloader
from ..common.models.glipv2_swin_t import model
from .glip_t_a import inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glipv2_t"
train.max_iter = 330_000
dataloader.train.total_batch_size = 64
# optimizer: 1e-4, and 1e-5 for BERT, as GLIP-T's.
