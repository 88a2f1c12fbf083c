"""tests/support/tiny_train.py with all that is drawn: augmentation, prompts, dropout, drop path."""

from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from detectron2.data import transforms as T

# Loaded, not imported: each time it registers its data set.
_base = LazyConfig.load(str(Path(__file__).with_name("tiny_train.py")))
dataloader, inference, model, train = _base.dataloader, _base.inference, _base.model, _base.train
optimizer, lr_multiplier = _base.optimizer, _base.lr_multiplier

_mapper = dataloader.train.mapper
_mapper.augmentations = [
    L(T.RandomFlip)(),
    L(T.RandomApply)(tfm_or_aug=L(T.RandomBrightness)(intensity_min=0.5, intensity_max=1.5)),
]
_mapper.full_prompt_prob = 0.3
_mapper.shuffle = True
model.neck.dropout = 0.2
model.backbone.bottom_up.drop_path_rate = 0.2
