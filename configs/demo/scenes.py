"""The demo: a small GLIP on the embedded "scenes", from scratch on two CPU cores (or a GPU)."""

from ..common.recipes.scenes import dataloader, inference, lr_multiplier, model, optimizer, train
