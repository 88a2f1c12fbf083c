"""The demo's GLIP taken further as a GLIPv2: contrastive loss and masked words (docs/glipv2.md)."""

from glipv2_d2.data.datasets.scenes import SCENES_ANSWERS

from ..models.glip_scenes import WEIGHTS
from ..models.glipv2 import add_pretraining_losses
from ..scenes_texts import text_tests
from ..stages import Recipe, mask_stage, second_stage, understanding_stage
from .scenes import dataloader, inference, lr_multiplier, model, optimizer, train

add_pretraining_losses(model, vocabulary_size=30522)
# Short trainings see few masked words: BERT's 15 % left colors at chance after 600 steps.
model.mlm_head.mask_prob = 0.4
# At weight 1 the gradient that reaches the backbone is almost all of the contrast: its norm is 5 to
# 9, that of each other loss about 1.
model.contrast.weight = 0.2

train.init_checkpoint = f"safetensors:{WEIGHTS}"  # Detectron2's own program reads no plain one
train.output_dir = "./output/scenes_glipv2"
train.max_iter = 7000
optimizer.lr = 4e-4
lr_multiplier.warmup_iters = 100
# Words can be masked where there are sentences: four captions for each detection prompt.
dataloader.train.datasets = [["scenes_train", 0.5], ["scenes_train_grounding", 1.0]]
recipe = Recipe(dataloader, inference, lr_multiplier, model, optimizer, train)


def with_answers_and_captions():
    """The stages up to the third, in which names, questions and captions are mixed."""
    mix = [
        ["scenes_train", 0.3],
        ["scenes_train_vqa_grounding", 0.25],
        ["scenes_train_caption_grounding", 0.35],
    ]
    # The image encoder knows shapes and colors by now.
    parts = ["neck", "head", "vqa_head", "caption_head"]
    third = understanding_stage(
        second_stage(recipe),
        answers=list(SCENES_ANSWERS),
        vocabulary_size=30522,
        datasets=mix,
        parts=parts,
        max_iter=2400,
    )
    # Without, what is left of what was answered at chance, after 8,000 steps.
    model.neck.positions = True
    model.vqa_head.ground_answer = True  # each question of the mix ends with [MASK]
    # A sum over the answers: at weight 1 its gradient is most of all gradients.
    model.vqa_head.weight = 0.5
    optimizer.lr = 5e-4
    # Measured: at the rate of all else the new heads learn nothing of the image in 500 steps.
    optimizer.params.lr_by_prefix = dict(vqa_head=3e-3, caption_head=3e-3)
    lr_multiplier.warmup_iters = 50
    dataloader.train.total_batch_size = 16
    dataloader.further_tests.update(text_tests())
    return third


def with_masks():
    """The stages up to the fourth: a mask head, all else frozen."""
    third = with_answers_and_captions()
    sizes = dict(channels=128, canonical_box_size=64)
    fourth = mask_stage(third, third.dataloader, max_iter=600, **sizes)
    model.mask_head.regions_per_image = 16  # measured: 64 take three times as long
    train.ema.enabled = False
    optimizer.lr = 1e-3
    dataloader.train.total_batch_size = 8
    dataloader.train.datasets = [["scenes_train", 1.0]]
    dataloader.train.mapper.use_masks = True
    return fourth
