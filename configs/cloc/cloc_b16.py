"""CLOC with ViT-B/16 at 224 pixels (Table 2), on image-text pairs with pseudo boxes."""

from ..common.recipes.cloc import dataloader, inference, lr_multiplier, model, optimizer, train

train.output_dir = "./output/cloc_b16"
