"""A LazyConfig that trains the tiny model on the tiny data set of the folder $TINY_DATA.

Augmentation, dropout and prompt sampling are off, so that equal runs are equal.
"""

import os

from detectron2.config import LazyCall as L
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import register_coco_instances
from omegaconf import OmegaConf

from glipv2_d2.config import get_config
from glipv2_d2.data import (
    GroundingDatasetMapper,
    build_grounding_test_loader,
    build_grounding_train_loader,
)
from glipv2_d2.evaluation import build_evaluator
from glipv2_d2.language.tokenizer import PromptTokenizer
from tests.support.tiny import tiny_config

_base = get_config("demo/scenes.py")
train, inference = _base.train, _base.inference
optimizer, lr_multiplier = _base.optimizer, _base.lr_multiplier
model = tiny_config()

_folder = os.environ["TINY_DATA"]
if "tiny" not in DatasetCatalog.list():
    register_coco_instances("tiny", {}, f"{_folder}/tiny.json", _folder)

dataloader = OmegaConf.create()
_tokenizer = L(PromptTokenizer.from_pretrained)(name=model.language_backbone.model)
dataloader.train = L(build_grounding_train_loader)(
    datasets=["tiny"],
    mapper=L(GroundingDatasetMapper)(
        is_train=True,
        augmentations=[],
        tokenizer=_tokenizer,
        full_prompt_prob=1.0,
        shuffle=False,
    ),
    total_batch_size=4,
    seed="${train.seed}",
)
dataloader.test = L(build_grounding_test_loader)(
    dataset="tiny",
    mapper=L(GroundingDatasetMapper)(
        is_train=False,
        augmentations=[L(T.ResizeShortestEdge)(short_edge_length=96, max_size=128)],
        tokenizer=_tokenizer,
    ),
    batch_size=2,
)
dataloader.evaluator = L(build_evaluator)(
    dataset_name="tiny", output_dir="${train.output_dir}/inference"
)

train.max_iter = 4
train.device = "cpu"
train.amp.enabled = False
train.log_period = 1
train.eval_period = -1
lr_multiplier.warmup_iters = 1
inference.update(min_size=96, max_size=128, score_threshold=0.0, merge_iou=None)
