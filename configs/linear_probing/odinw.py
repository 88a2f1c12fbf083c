"""Linear probing on one data set of ODinW, by the rules of GLIP's README (`linear_prob`).

`glip train --tune configs/linear_probing/odinw.py odinw.name=pothole` is
`--tune configs/finetune/odinw.py --mode linear`; the options are those of that recipe.
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

train.trained_parts = [
    "head.bbox_pred",
    "head.centerness",
    "head.text_projection",
    "head.log_scale",
    "head.bias0",
    "head.bias_lang",
]
