"""GLIPv2-H: CoSwin-H, GLIPv2-B's data and schedule in a single stage (Appendix D.1)."""

from ..common.models.glipv2_coswin_h import model
from .glipv2_b import dataloader, inference, lr_multiplier, optimizer, train

train.output_dir = "./output/glipv2_h"
