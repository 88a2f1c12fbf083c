"""Writes scenes as COCO and MDETR-GoldG json entries, and assembles whole splits from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from ..data.datasets.scenes import ALL_PAIRS, BASE_PAIRS, CATEGORY_IDS
from .captions import Caption, CaptionWriter
from .layout import place_objects, sample_base_pairs, sample_novel_pairs
from .photos import EVAL_PHOTOS, TRAIN_PHOTOS, random_background
from .render import SceneObject, paint_scene

JPEG_QUALITY = 92


@dataclass(frozen=True)
class Split:
    """How one split is made. `key` enters the random seed; `captions` is per image."""

    name: str
    key: int
    photos: tuple
    pairs: tuple
    captions: int


SPLITS = {
    "train": Split("train", 0, TRAIN_PHOTOS, BASE_PAIRS, captions=2),
    "val": Split("val", 1, EVAL_PHOTOS, ALL_PAIRS, captions=1),
    "novel": Split("novel", 2, EVAL_PHOTOS, ALL_PAIRS, captions=0),
}


@dataclass
class Scene:
    """One finished scene: (S, S, 3) uint8 RGB pixels, its objects and its captions."""

    pixels: np.ndarray
    objects: list[SceneObject]
    captions: list[Caption]


def make_scene(split: Split, index: int, seed: int, size: int) -> Scene:
    """Make the scene number `index` of a split; it depends on nothing but the arguments."""
    rng = np.random.default_rng([seed, split.key, index])
    background = random_background(rng, split.photos, size)
    pairs = sample_novel_pairs(rng, index) if split.name == "novel" else sample_base_pairs(rng)
    objects = place_objects(rng, pairs, size)
    pixels = paint_scene(background, objects, light=rng.uniform(0.0, 2.0 * np.pi))
    writer = CaptionWriter(objects, size)
    return Scene(pixels, objects, [writer.write(rng) for _ in range(split.captions)])


def render_to_disk(split_name: str, index: int, seed: int, size: int, root: str) -> dict:
    """Make one scene, save its picture and return its json entries (ids not yet set).

    Returns:
        {"file_name", "annotations": COCO entries, "captions": [(text, [spans per object])]}.
    """
    scene = make_scene(SPLITS[split_name], index, seed, size)
    file_name = f"{split_name}/{index:06d}.jpg"
    Image.fromarray(scene.pixels).save(Path(root) / file_name, quality=JPEG_QUALITY, subsampling=0)
    captions = [
        (caption.text, [caption.spans.get(i, []) for i in range(len(scene.objects))])
        for caption in scene.captions
    ]
    annotations = [_annotation(item) for item in scene.objects]
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
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, scene in enumerate(scenes, start=1):
        images.append(
            {"id": image_id, "file_name": scene["file_name"], "height": size, "width": size}
        )
        for entry in scene["annotations"]:
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **entry})
    return {
        "info": {"description": f"scenes {split_name}"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": CATEGORY_IDS[pair], "name": " ".join(pair), "supercategory": pair[1]}
            for pair in SPLITS[split_name].pairs
        ],
    }


def grounding_json(split_name: str, scenes: list[dict], size: int) -> dict:
    """Assemble the MDETR-GoldG json of a split: an image entry per caption, spans per box."""
    images: list[dict] = []
    annotations: list[dict] = []
    for original_id, scene in enumerate(scenes, start=1):
        for text, spans in scene["captions"]:
            image_id = len(images) + 1
            images.append(
                {
                    "id": image_id,
                    "file_name": scene["file_name"],
                    "height": size,
                    "width": size,
                    "caption": text,
                    "dataset_name": "scenes",
                    "tokens_negative": [[0, len(text)]],
                    "original_id": original_id,
                    "data_source": "scenes",
                }
            )
            for entry, positive in zip(scene["annotations"], spans):
                if positive:
                    annotations.append(_grounded(entry, positive, len(annotations) + 1, image_id))
    return {
        "info": {"description": f"scenes {split_name} grounding"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"supercategory": "object", "id": 1, "name": "object"}],
    }


def _grounded(entry: dict, spans: list, annotation_id: int, image_id: int) -> dict:
    return {
        **entry,
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "tokens_positive": [list(span) for span in spans],
    }
