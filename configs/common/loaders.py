"""The nodes of loaders and evaluators, written once for all data."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from glipv2_d2.data import (
    GroundingDatasetMapper,
    build_grounding_test_loader,
    build_grounding_train_loader,
)
from glipv2_d2.evaluation import build_evaluator
from glipv2_d2.modeling.text import build_tokenizer


def _mapper(augmentations, **options):
    return L(GroundingDatasetMapper)(
        augmentations=augmentations,
        tokenizer=L(build_tokenizer)(
            backbone="${model.language_backbone.name}",
            model="${model.language_backbone.model}",
            max_tokens="${model.language_backbone.max_tokens}",
        ),
        image_format="${model.input_format}",
        **options,
    )


def train_loader(datasets, *, short_edges, max_size, mapper=None, **options):
    """Training data.

    Args:
        datasets: names, or pairs of a name and how often an epoch each image of it is seen.
        short_edges, max_size: pixels; of each image one of `short_edges` is drawn.
        mapper, options: further ones of `GroundingDatasetMapper`, `build_grounding_train_loader`.
    """
    resize = L(T.ResizeShortestEdge)(
        short_edge_length=short_edges, max_size=max_size, sample_style="choice"
    )
    return L(build_grounding_train_loader)(
        datasets=datasets,
        mapper=_mapper([resize, L(T.RandomFlip)(horizontal=True)], is_train=True, **(mapper or {})),
        seed="${train.seed}",
        **options,
    )


def test_loader(dataset, *, batch_size, num_workers, mapper=None):
    """Every image of a data set once; `mapper`: further options of `GroundingDatasetMapper`."""
    resize = L(T.ResizeShortestEdge)(
        short_edge_length="${inference.min_size}", max_size="${inference.max_size}"
    )
    return L(build_grounding_test_loader)(
        dataset=dataset,
        mapper=_mapper(
            [resize], is_train=False, chunk_size="${model.chunk_size}", **(mapper or {})
        ),
        batch_size=batch_size,
        num_workers=num_workers,
    )


def evaluator(dataset, folder="inference", **options):
    """The evaluator of a data set; `folder`: of its files, below the output folder."""
    return L(build_evaluator)(
        dataset_name=dataset, output_dir="${train.output_dir}/" + folder, **options
    )
