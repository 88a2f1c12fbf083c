"""Fine-tuning of the whole model on one data set of ODinW, by the rules of GLIP's README.

`glip train --tune configs/finetune/odinw.py odinw.name=pothole`; few-shot: `odinw.train`,
`odinw.test` (the few-shot validation file, which chooses) and `odinw.copies`, see
`configs/common/data/odinw.py`. `glip odinw` does it for a suite, with the iterations of
an epoch as `train.eval_period` and 200 epochs as `train.max_iter`.
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
