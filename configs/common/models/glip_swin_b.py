"""GLIP with a Swin-B: between T and L, as GLIPv2-B has it; the tower is GLIP-T's."""

from .glip_swin_t import model

model.backbone.bottom_up.embed_dim = 128
model.backbone.bottom_up.depths = (2, 2, 18, 2)
model.backbone.bottom_up.num_heads = (4, 8, 16, 32)
model.backbone.bottom_up.window_size = 12
model.backbone.bottom_up.drop_path_rate = 0.3
