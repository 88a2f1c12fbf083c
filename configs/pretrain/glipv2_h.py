"""GLIPv2-H: CoSwin-H, GLIPv2-B's data and schedule in a single stage (Appendix D.1)."""

from ..common.recipes.glipv2_h import dataloader, inference, lr_multiplier, model, optimizer, train
