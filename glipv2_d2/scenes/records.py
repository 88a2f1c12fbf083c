"""Writes scenes as COCO and MDETR-GoldG json entries, and assembles whole splits from them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from ..data.datasets.scenes import ALL_PAIRS, BASE_PAIRS, CATEGORY_IDS
from .captions import CaptionWriter
from .layout import place_objects, sample_base_pairs, sample_novel_pairs
from .photos import EVAL_PHOTOS, TRAIN_PHOTOS, random_background
from .render import SceneObject, paint_scene

JPEG_QUALITY = 92


class Split(NamedTuple):
    """How one split is made. `key` enters the random seed; `captions` is per image."""

    key: int
    photos: tuple
    pairs: tuple
    captions: int


SPLITS = {
    "train": Split(0, TRAIN_PHOTOS, BASE_PAIRS, captions=2),
    "val": Split(1, EVAL_PHOTOS, ALL_PAIRS, captions=1),
    "novel": Split(2, EVAL_PHOTOS, ALL_PAIRS, captions=0),
}


def render_to_disk(split_name: str, index: int, seed: int, size: int, root: str) -> dict:
    """Make the scene number `index` of a split, save its picture and return its json entries.

    It depends on nothing but the arguments. The entries have no ids yet.

    Returns:
        {"file_name", "annotations": COCO entries, "captions": [(text, [spans per object])]}.
    """
    split = SPLITS[split_name]
    rng = np.random.default_rng([seed, split.key, index])
    background = random_background(rng, split.photos, size)
    novel = split_name == "novel"
    pairs = sample_novel_pairs(rng, index) if novel else sample_base_pairs(rng)
    objects = place_objects(rng, pairs, size)
    pixels = paint_scene(background, objects, light=rng.uniform(0.0, 2.0 * np.pi))
    file_name = f"{split_name}/{index:06d}.jpg"
    Image.fromarray(pixels).save(Path(root) / file_name, quality=JPEG_QUALITY, subsampling=0)
    writer = CaptionWriter(objects, size)
    written = [writer.write(rng) for _ in range(split.captions)]
    captions = [(c.text, [c.spans.get(i, []) for i in range(len(objects))]) for c in written]
    annotations = [_annotation(item) for item in objects]
    return {"file_name": file_name, "annotations": annotations, "captions": captions}


def _annotation(item: SceneObject) -> dict:
    """COCO entry of the visible part of an object."""
    rle = mask_util.encode(np.asfortranarray(item.visible.astype(np.uint8)))
    return {
        "category_id": CATEGORY_IDS[item.pair],
        "bbox": [float(v) for v in item.box],
        "area": float(item.visible.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
    }


def detection_json(split_name: str, scenes: list[dict], size: int) -> dict:
    """Assemble the COCO detection json of a split; images and annotations are numbered from 1."""
    numbered = list(enumerate(scenes, start=1))
    images = [_image(image_id, scene, size) for image_id, scene in numbered]
    entries = [(image_id, entry) for image_id, scene in numbered for entry in scene["annotations"]]
    annotations = [
        {"id": number, "image_id": image_id, **entry}
        for number, (image_id, entry) in enumerate(entries, start=1)
    ]
    categories = [
        {"id": CATEGORY_IDS[pair], "name": " ".join(pair), "supercategory": pair[1]}
        for pair in SPLITS[split_name].pairs
    ]
    return _coco(f"scenes {split_name}", images, annotations, categories)


def grounding_json(split_name: str, scenes: list[dict], size: int) -> dict:
    """Assemble the MDETR-GoldG json of a split: an image entry per caption, spans per box."""
    images: list[dict] = []
    annotations: list[dict] = []
    for original_id, scene in enumerate(scenes, start=1):
        for text, spans in scene["captions"]:
            image = {
                **_image(len(images) + 1, scene, size),
                "caption": text,
                "dataset_name": "scenes",
                "tokens_negative": [[0, len(text)]],
                "original_id": original_id,
                "data_source": "scenes",
            }
            images.append(image)
            for entry, positive in zip(scene["annotations"], spans):
                if positive:
                    own = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1}
                    annotations.append(
                        {**entry, **own, "tokens_positive": list(map(list, positive))}
                    )
    categories = [{"supercategory": "object", "id": 1, "name": "object"}]
    return _coco(f"scenes {split_name} grounding", images, annotations, categories)


def _image(image_id: int, scene: dict, size: int) -> dict:
    return {"id": image_id, "file_name": scene["file_name"], "height": size, "width": size}


def _coco(description: str, images: list, annotations: list, categories: list) -> dict:
    return {
        "info": {"description": description},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
