"""Prompt tuning on one data set of ODinW, by the rules of GLIP's README (`language_prompt_v2`).

`glip train --tune configs/prompt_tuning/odinw.py odinw.name=pothole` is
`--tune configs/finetune/odinw.py --mode prompt`; the options are those of that recipe.
"""

from ..common.recipes.odinw import (
    dataloader,
    evaluation,
    lr_multiplier,
    model,
    odinw,
    optimizer,
    train,
)

dataloader.train.mapper.tuned_datasets = "${dataloader.train.datasets}"
dataloader.train.mapper.chunk_size = "${dataloader.test.mapper.chunk_size}"
dataloader.test.mapper.tuned_datasets = "${dataloader.train.datasets}"
optimizer.lr = 0.05
optimizer.weight_decay = 0.25
train.trained_parts = ["prompt_embeddings"]
