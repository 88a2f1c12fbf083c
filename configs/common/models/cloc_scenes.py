"""The demo's CLOC: the real layers, small enough to train on a CPU core in minutes."""

from .cloc_b16 import model

model.visual.name = "vit_base_patch16_clip_224"  # whose sizes are:
model.visual.sizes = dict(embed_dim=128, depth=4, num_heads=2)
model.visual.image_size = 160
model.language_backbone.width = 128
model.language_backbone.num_heads = 2
model.language_backbone.num_layers = 3
model.language_backbone.max_tokens = 48
model.prompter.channels = 128
model.embed_channels = 128
