"""Records and mappers of small images."""

from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from glipv2_d2.data import GroundingDatasetMapper


def box(x, y, w, h, **fields):
    return {"bbox": [x, y, w, h], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0, **fields}


def record(image_file, annotations, **fields):
    return {
        "file_name": image_file,
        "height": 60,
        "width": 80,
        "image_id": 5,
        "annotations": annotations,
        **fields,
    }


def detection(image_file, *annotations):
    return record(image_file, list(annotations), dataset_name="tiny_vocabulary")


def mapper(tokenizer, augmentations=(), is_train=True, **options):
    return GroundingDatasetMapper(
        is_train=is_train, augmentations=augmentations, tokenizer=tokenizer, **options
    )


def make_mapper(tokenizer, is_train=True, **options):
    """As `mapper`, of images of 48 pixels."""
    return mapper(tokenizer, [T.ResizeShortestEdge(48, max_size=100)], is_train, **options)
