"""GLIP-L: Swin-L and eight blocks of deep fusion."""

from .glip_swin_t import model

model.backbone.bottom_up.embed_dim = 192
model.backbone.bottom_up.depths = (2, 2, 18, 2)
model.backbone.bottom_up.num_heads = (6, 12, 24, 48)
model.backbone.bottom_up.window_size = 12
model.backbone.bottom_up.drop_path_rate = 0.4
# Inherited default of the official code (FREEZE_CONV_BODY_AT 2).
model.backbone.bottom_up.frozen_stages = 1
model.neck.num_blocks = 8
