"""COCO detection as grounding: the 80 names are the prompt."""

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
    datasets=["coco_2017_train"],
    mapper=L(GroundingDatasetMapper)(
        is_train=True,
        augmentations=[
            L(T.ResizeShortestEdge)(
                short_edge_length=(480, 560, 640, 720, 800), max_size=1333, sample_style="choice"
            ),
            L(T.RandomFlip)(horizontal=True),
        ],
        tokenizer=L(PromptTokenizer.from_pretrained)(
            name="${model.language_backbone.model}",
            max_tokens="${model.language_backbone.max_tokens}",
        ),
        image_format="${model.input_format}",
        max_classes=85,
        full_prompt_prob=0.5,
    ),
    total_batch_size=16,
    num_workers=4,
    seed="${train.seed}",
    aspect_ratio_grouping=True,
)

dataloader.test = L(build_grounding_test_loader)(
    dataset="coco_2017_val",
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
    batch_size=1,
    num_workers=4,
)

dataloader.evaluator = L(build_evaluator)(
    dataset_name="${dataloader.test.dataset}", output_dir="${train.output_dir}/inference"
)
