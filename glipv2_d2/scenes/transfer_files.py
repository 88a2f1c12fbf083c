"""Splits scenes into those a model is pre-trained on and those it is adapted to afterwards.

The first show no thing that is pink or a moon, the others at least one, and only such things are
annotated in them, as in anybody's data set of a few classes: all else is background.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..data.datasets.scenes import CATEGORY_IDS, NEW_PAIRS, OLD_PAIRS

# By split; `novel` has none: its pairs are those that no training shows.
TRANSFER_FILES = {
    "train": ("old", "old_grounding", "new", "choose"),
    "val": ("old", "new"),
    "novel": (),
}
CHOOSING = 25  # of so many training images one chooses the model: test images must not


def transfer_files(split: str, detection: dict, grounding: dict | None) -> dict[str, dict]:
    """Make the files of a split.

    Args:
        split: "train", "val" or "novel".
        detection, grounding: content of `annotations/{split}.json` and `{split}_grounding.json`.

    Returns:
        Name of the file (of `TRANSFER_FILES`) -> content, with the ids of images, annotations and
        categories that it has there.
    """
    new_ids = {CATEGORY_IDS[pair] for pair in NEW_PAIRS}
    shown = {a["image_id"] for a in detection["annotations"] if a["category_id"] in new_ids}
    old = {image["id"] for image in detection["images"]} - shown
    choose = set(sorted(shown)[::CHOOSING]) if "choose" in TRANSFER_FILES[split] else set()
    files = {
        "old": _part(detection, old, {CATEGORY_IDS[pair] for pair in OLD_PAIRS}),
        "new": _part(detection, shown - choose, new_ids),
        "choose": _part(detection, choose, new_ids),
    }
    if grounding is not None:
        texts = {image["id"] for image in grounding["images"] if image["original_id"] in old}
        files["old_grounding"] = _part(grounding, texts, {1})
    return {name: files[name] for name in TRANSFER_FILES[split]}


def _part(content: dict, images: Collection[int], categories: Collection[int]) -> dict[str, Any]:
    """The entries of these images and categories."""
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in images],
        "annotations": [
            entry
            for entry in content["annotations"]
            if entry["image_id"] in images and entry["category_id"] in categories
        ],
        "categories": [entry for entry in content["categories"] if entry["id"] in categories],
    }
