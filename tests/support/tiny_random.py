"""tests/support/tiny_train.py with all that is drawn: augmentation, prompts, dropout, drop path."""

from detectron2.config import LazyCall as L
from detectron2.data import transforms as T

from tests.support.tiny_train import (  # noqa: F401
    dataloader,
    inference,
    lr_multiplier,
    model,
    optimizer,
    train,
)

_mapper = dataloader.train.mapper
_mapper.augmentations = [
    L(T.RandomFlip)(),
    L(T.RandomApply)(tfm_or_aug=L(T.RandomBrightness)(intensity_min=0.5, intensity_max=1.5)),
]
_mapper.full_prompt_prob = 0.3
_mapper.shuffle = True
model.neck.dropout = 0.2
model.backbone.bottom_up.drop_path_rate = 0.2
