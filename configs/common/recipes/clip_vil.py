"""How CLIP-ViL_p is fine-tuned on VQAv2: AdamW for the transformer, SGD for CLIP's tower.

Rates, weight decays, batch, epochs, warm-up and the sizes of images are those of its repository's
command and defaults. Chosen here: one cosine for both, where theirs falls linearly for the
transformer and in a step for CLIP; images are padded to the batch, not to 384 x 640; bf16.
"""

from detectron2.config import LazyCall as L

from glipv2_d2.engine.optim import AdamWAndSGD, get_glip_optimizer_params

from ..models.clip_vil import model
from ..schedule import lr_multiplier_cosine as lr_multiplier
from ..train import inference, train

optimizer = L(AdamWAndSGD)(
    params=L(get_glip_optimizer_params)(
        base_lr="${..lr}",
        weight_decay="${..weight_decay}",
        weight_decay_norm=0.0,
        weight_decay_bias=0.0,
        overrides=dict(backbone=dict(lr=1e-3, weight_decay=4e-4, sgd=True)),
    ),
    lr=5e-5,
    weight_decay=0.01,
    eps=1e-6,
    momentum=0.0,
)
train.ema.enabled = False
inference.min_size = 384
inference.max_size = 640


def learn(dataloader, name, *, samples, epochs=5):
    """Set the length of a training on `samples` questions or captions, and the sizes of images."""
    train.output_dir = f"./output/clip_vil_{name}"
    train.max_iter = epochs * samples // 256
    lr_multiplier.warmup_iters = train.max_iter // 20
    dataloader.train.total_batch_size = 256
    resize = dataloader.train.mapper.augmentations[0]
    resize.short_edge_length, resize.max_size = (inference.min_size,), inference.max_size
