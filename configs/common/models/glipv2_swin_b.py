"""GLIPv2-B: UniCL's Swin-B and text transformer; its tower's text layers are CLIP's kind, too.

Training starts from UniCL's weights: `train.init_checkpoint=` a released UniCL Swin-B.
"""

from .glip_swin_b import model
from .glipv2 import add_pretraining_losses, use_clip_text

model.backbone.bottom_up.window_size = 7  # of UniCL's image tower
use_clip_text(model)
add_pretraining_losses(model, vocabulary_size=49408)
