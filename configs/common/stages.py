"""A recipe, and the stages that go on from the last checkpoint of another one."""

from typing import NamedTuple

from omegaconf import DictConfig

from .mixes import COCO_CAPTIONS, VQAV2_ANSWERS, VQAV2_QUESTIONS
from .models.glipv2_mask import add_mask_head
from .models.presence import add_presence_head
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
    that one model has them all. The contrast stays with the image encoder that it is of.

    Args:
        answers, vocabulary_size: see `models/understanding.py`.
        datasets: the mix, lists of names among it so that detection stays.
        parts: those that are trained, see `train.trained_parts`.
    """
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


def presence_stage(recipe, *, max_iter, **head):
    """A presence head, all else frozen; the data are lists of names, see `PresenceHead.losses`.

    Args:
        head: see `add_presence_head`.
    """
    add_presence_head(recipe.model, **head)
    recipe.train.trained_parts = ["presence_head"]
    recipe.train.max_iter = max_iter
    return _go_on(recipe, "presence")


def finetune_stage(recipe, dataloader, stage, *, samples, epochs, lr):
    """The whole model fine-tuned on boxes, and on masks where it has a mask head (Appendix D.2).

    The paper states `epochs` and `lr` and no more. Chosen: the losses of GLIP and of the masks
    alone; batches of 32, the language backbone at the rate of the rest and, with class names, their
    own order, as GLIP's command for COCO (README of microsoft/GLIP); images, warm-up and the steps
    of the rate as in the pre-training.

    Args:
        samples: images, or captions, of an epoch.
    """
    train = dataloader.train
    train.mapper.shuffle = False
    train.mapper.use_masks = recipe.model.get("mask_head") is not None
    recipe.train.trained_parts = None
    return _fine_tune(recipe, dataloader, stage, samples=epochs * samples, batch=32, lr=lr)


def vqa_stage(recipe, dataloader, stage="vqa", *, lr=1e-5):
    """A head for questions, and the whole model fine-tuned on VQAv2 (Appendix D.2).

    `lr`: see `_learn_task`.
    """
    add_vqa_head(recipe.model, answers=VQAV2_ANSWERS)
    return _learn_task(recipe, dataloader, stage, "vqa_head", VQAV2_QUESTIONS, lr)


def caption_stage(recipe, dataloader, stage="caption", *, captions=COCO_CAPTIONS, lr=1e-5):
    """A head for captions, and the whole model fine-tuned on them (Appendix D.2).

    Cross-entropy alone, as the paper. `captions`: of an epoch. `lr`: see `_learn_task`.
    """
    add_caption_head(recipe.model, vocabulary_size=recipe.model.mlm_head.vocabulary_size)
    return _learn_task(recipe, dataloader, stage, "caption_head", captions, lr)


def _learn_task(recipe, dataloader, stage, head, samples, lr):
    """The losses of GLIP, where there are boxes, and that of the head, from the first stage on.

    The paper states neither rates nor length nor sizes of images. Chosen: the rates of its
    fine-tuning on COCO's boxes (1e-5 for T, 5e-6 for B and H), 1e-4 for the new head, 5 epochs in
    batches of 64, images as in the pre-training. It starts from the first stage, since that has
    learned masked words; which one the paper takes is not stated either.
    """
    new = {head: 1e-4}
    return _fine_tune(recipe, dataloader, stage, samples=5 * samples, batch=64, lr=lr, new=new)


def _fine_tune(recipe, dataloader, stage, *, samples, batch, lr, new=None):
    """So many samples in batches of `batch` at the rate `lr`; `new`: the rates of new parts."""
    pretraining = {head: None for head in ("contrast", "mlm_head") if head in recipe.model}
    recipe.model.update(pretraining)
    recipe.optimizer.lr = lr
    recipe.optimizer.params.lr_by_prefix = new or {}
    recipe.train.max_iter = samples // batch
    dataloader.train.total_batch_size = batch
    return _go_on(recipe._replace(dataloader=dataloader), stage)


def _go_on(recipe, stage):
    train = recipe.train
    train.init_checkpoint = f"{train.output_dir}/model_final.pth"
    train.output_dir = f"{train.output_dir.removesuffix('_stage2')}_{stage}"
    return recipe
