"""The embedded "scenes": detection and captions mixed, two test sets (see datasets/README.md).

Tests prompt all 64 color-shape names; `scenes_novel` has the 12 that never occur in training.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from omegaconf import OmegaConf

from glipv2_d2.data import (
    GroundingDatasetMapper,
    build_grounding_test_loader,
    build_grounding_train_loader,
)
from glipv2_d2.evaluation import build_evaluator
from glipv2_d2.language.tokenizer import PromptTokenizer

dataloader = OmegaConf.create()

dataloader.train = L(build_grounding_train_loader)(
    # (name, how often an epoch each image is seen)
    datasets=[["scenes_train", 1.0], ["scenes_train_grounding", 1.0]],
    mapper=L(GroundingDatasetMapper)(
        is_train=True,
        augmentations=[
            L(T.ResizeShortestEdge)(
                short_edge_length=(160, 176, 192, 208, 224), max_size=256, sample_style="choice"
            ),
            L(T.RandomFlip)(horizontal=True),
        ],
        tokenizer=L(PromptTokenizer.from_pretrained)(
            name="${model.language_backbone.model}",
            max_tokens="${model.language_backbone.max_tokens}",
        ),
        image_format="${model.input_format}",
    ),
    total_batch_size=12,
    num_workers=1,
    seed="${train.seed}",
)


def _test_loader(name):
    return L(build_grounding_test_loader)(
        dataset=name,
        mapper=L(GroundingDatasetMapper)(
            is_train=False,
            augmentations=[
                L(T.ResizeShortestEdge)(
                    short_edge_length="${inference.min_size}", max_size="${inference.max_size}"
                ),
            ],
            tokenizer="${dataloader.train.mapper.tokenizer}",
            image_format="${model.input_format}",
            chunk_size="${model.chunk_size}",
        ),
        batch_size=8,
        num_workers=0,
    )


def _evaluator(folder):
    return L(build_evaluator)(
        dataset_name="${..test.dataset}", output_dir="${train.output_dir}/" + folder
    )


dataloader.test = _test_loader("scenes_val")
dataloader.evaluator = _evaluator("inference_val")
dataloader.further_tests = dict(
    scenes_novel=dict(test=_test_loader("scenes_novel"), evaluator=_evaluator("inference_novel"))
)
