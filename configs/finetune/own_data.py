"""Fine-tuning on one's own detection data: the rules of `glip finetune`, which sets the rest.

By hand, with `my_train` and `my_val` registered:
`glip train --tune finetune/own_data.py own.val=my_val dataloader.train.datasets=[my_train] ...`.
Augmentation and size of the images stay those of the model's config.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.engine.schedule import warmup_multi_step

from ..common.loaders import evaluator, test_loader

own = dict(val="", batch_size=4, num_workers=2)
dataloader = dict(
    test=test_loader(
        "${own.val}", batch_size="${own.batch_size}", num_workers="${own.num_workers}"
    ),
    evaluator=evaluator("${own.val}"),
)
optimizer = dict(lr=1e-4, weight_decay=0.05)
# No schedule: the rate falls when the validation AP does not rise, and the average of the weights
# is what is evaluated.
lr_multiplier = L(warmup_multi_step)(max_iter="${train.max_iter}", steps=(), warmup_iters=0)
train = dict(
    ema=dict(enabled=True, decay=0.998),
    weight_decay_steps=(),
    best_metric="bbox/AP",
    patience=dict(lower_rate=3, stop=8),
    checkpointer=dict(max_to_keep=1),
)
