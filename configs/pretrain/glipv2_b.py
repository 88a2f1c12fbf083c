"""GLIPv2-B, first stage: all three losses on FiveODs, GoldG, CC15M and SBU (Appendix D.1).

It starts from UniCL's Swin-B and text transformer: set train.init_checkpoint to their file. The
authors lower the learning rate where the zero-shot AP on COCO saturates; the steps here are those
they state.
"""

from ..common.recipes.glipv2_b import dataloader, inference, lr_multiplier, model, optimizer, train
