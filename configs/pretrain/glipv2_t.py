"""GLIPv2-T, first stage: all three losses on Objects365, GoldG and Cap4M (Appendix D.1).

Like GLIP-T it starts from an ImageNet Swin and BERT: set model.backbone.bottom_up.pretrained to
"swin_tiny_patch4_window7_224" (through timm) or to the Swin authors' file. The authors lower the
learning rate where the zero-shot AP on COCO saturates; the steps here are those they state.
"""

from ..common.recipes.glipv2_t import dataloader, inference, lr_multiplier, model, optimizer, train
