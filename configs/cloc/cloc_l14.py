"""CLOC with ViT-L/14 at 336 pixels, on image-text pairs with pseudo boxes."""

from ..common.recipes.cloc import dataloader, inference, lr_multiplier, model, optimizer, train

train.output_dir = "./output/cloc_l14"
model.visual.name = "vit_large_patch14_clip_quickgelu_336"
model.visual.image_size = 336
model.visual.use_checkpoint = True
model.language_backbone.width = 768
model.language_backbone.num_heads = 12
model.language_backbone.num_layers = 12
model.prompter.channels = 1024
model.embed_channels = 768
