"""GLIP-T (C): Objects365 and GoldG, with deep fusion."""

from ..common.recipes.glip_t_c import dataloader, inference, lr_multiplier, model, optimizer, train
