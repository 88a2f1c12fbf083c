"""CLOC with ViT-H/14 at 336 pixels, on image-text pairs with pseudo boxes."""

from ..common.recipes.cloc import dataloader, inference, lr_multiplier, model, optimizer, train

train.output_dir = "./output/cloc_h14"
model.visual.name = "vit_huge_patch14_clip_336"
model.visual.image_size = 336
model.visual.use_checkpoint = True
model.language_backbone.width = 1024
model.language_backbone.num_heads = 16
model.language_backbone.num_layers = 24
model.prompter.channels = 1280
model.embed_channels = 1024
