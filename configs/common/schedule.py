"""Learning rate over the course of training: GLIP's two steps, or a cosine, after a warm-up.

Everything is relative to `train.max_iter`, so that a longer or shorter run keeps the shape.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.engine.schedule import warmup_cosine, warmup_multi_step

lr_multiplier = L(warmup_multi_step)(
    max_iter="${train.max_iter}",
    steps=(0.67, 0.89),
    gamma=0.1,
    warmup_iters=2000,
    warmup_factor=0.001,
)

lr_multiplier_cosine = L(warmup_cosine)(
    max_iter="${train.max_iter}",
    end_factor=0.01,
    warmup_iters=2000,
    warmup_factor=0.001,
)
