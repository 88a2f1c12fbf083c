"""The demo's CLOC: embeddings of regions, from scratch on a CPU core (docs/cloc.md)."""

from ..common.recipes.scenes_cloc import (
    dataloader,
    inference,
    lr_multiplier,
    model,
    optimizer,
    train,
)
