"""A recipe, and the stages that go on from the last checkpoint of another one."""

from typing import NamedTuple

from omegaconf import DictConfig

from .models.glipv2_mask import add_mask_head
from .models.understanding import add_caption_head, add_vqa_head

# In no second stage: image-text pairs with pseudo boxes.
_PAIRS = ("cap4m_train", "cc15m_sbu_train")


class Recipe(NamedTuple):
    """What a leaf defines for `train_net.py`; the stages below change its nodes in place."""

    dataloader: DictConfig
    inference: DictConfig
    lr_multiplier: DictConfig
    model: DictConfig
    optimizer: DictConfig
    train: DictConfig


def second_stage(recipe):
    """GLIPv2 without masked words, on detection and GoldG alone (Section 4.4)."""
    train = recipe.dataloader.train
    train.datasets = [entry for entry in train.datasets if entry[0] not in _PAIRS]
    recipe.model.mlm_head = None
    return _go_on(recipe, "stage2")


def understanding_stage(recipe, *, answers, vocabulary_size, datasets, parts, max_iter):
    """Answers and captions beside boxes, in one set of weights (Sections 3.3 and 4.2).

    The paper fine-tunes a model for each task (`vqa/`, `captioning/`); here the tasks are mixed, so
    that one model has them all. Without the contrast, which is learnt by then.

    Args:
        answers, vocabulary_size: see `models/understanding.py`.
        datasets: the mix, lists of names among it so that detection stays.
        parts: those that are trained, see `train.trained_parts`.
    """
    recipe.model.contrast = None
    add_vqa_head(recipe.model, answers=answers)
    add_caption_head(recipe.model, vocabulary_size=vocabulary_size)
    recipe.dataloader.train.datasets = datasets
    recipe.train.trained_parts = parts
    recipe.train.max_iter = max_iter
    return _go_on(recipe, "vl")


def mask_stage(recipe, dataloader, *, max_iter=120_800, **head):
    """A mask head, all else frozen (Appendix D.1).

    The paper states no learning rate: that of the pre-training.

    Args:
        dataloader, max_iter: with masks. In the paper 24, 24 and 8 epochs of COCO, LVIS and
            PhraseCut in batches of 64 (`data/masks.py`), here as a mix of the three: an epoch of it
            has a third of PhraseCut's, 118,287 + 100,170 + 310,816 / 3 images, and there are 24.
        head: see `add_mask_head`.
    """
    add_mask_head(recipe.model, **head)
    recipe.train.trained_parts = ["mask_head"]
    recipe.train.max_iter = max_iter
    return _go_on(recipe._replace(dataloader=dataloader), "mask")


def _go_on(recipe, stage):
    train = recipe.train
    train.init_checkpoint = f"{train.output_dir}/model_final.pth"
    train.output_dir = f"{train.output_dir.removesuffix('_stage2')}_{stage}"
    return recipe
