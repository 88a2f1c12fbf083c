"""The annotation files of a small rendered set."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from glipv2_d2.data.datasets.scenes import BASE_CLASSES, HELD_OUT_PAIRS, NOVEL_CLASSES

# Of pycocotools itself, on NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_twelve_pairs_occur_in_novel_only(annotations):
    held_out = {" ".join(pair) for pair in HELD_OUT_PAIRS}
    assert held_out == set(NOVEL_CLASSES)
    train_names = [c["name"] for c in annotations["train"]["categories"]]
    assert train_names == list(BASE_CLASSES)
    for split in ("val", "novel"):
        assert len(annotations[split]["categories"]) == 64
    used = {}
    for split in ("train", "val", "novel"):
        names = {c["id"]: c["name"] for c in annotations[split]["categories"]}
        used[split] = {names[a["category_id"]] for a in annotations[split]["annotations"]}
    assert not used["train"] & held_out and not used["val"] & held_out
    assert used["novel"] >= held_out
    # The words are checked in the whole files too: names, captions and whatever else is there.
    for stem in ("train", "train_grounding"):
        text = json.dumps(annotations[stem])
        assert not any(name in text for name in held_out)


def test_every_novel_image_has_its_distractors(annotations):
    content = annotations["novel"]
    names = {c["id"]: tuple(c["name"].split()) for c in content["categories"]}
    for image in content["images"]:
        pairs = [
            names[a["category_id"]] for a in content["annotations"] if a["image_id"] == image["id"]
        ]
        novel = [pair for pair in pairs if pair in HELD_OUT_PAIRS]
        base = [pair for pair in pairs if pair not in HELD_OUT_PAIRS]
        assert 1 <= len(novel) <= 3 and len(pairs) <= 8
        for color, shape in novel:
            assert sum(pair[0] == color for pair in base) >= 2
            assert sum(pair[1] == shape for pair in base) >= 2


@pytest.mark.parametrize("split", ["train", "val", "novel"])
def test_boxes_are_the_tight_boxes_of_the_masks(scenes_root, annotations, split):
    content = annotations[split]
    images = {image["id"]: image for image in content["images"]}
    masks = {}
    for a in content["annotations"]:
        image = images[a["image_id"]]
        assert a["segmentation"]["size"] == [image["height"], image["width"]]
        mask = mask_util.decode(a["segmentation"]).astype(bool)
        assert a["area"] == mask.sum() > 0 and a["iscrowd"] == 0
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x, y, width, height = a["bbox"]
        assert (x, y) == (columns[0], rows[0])
        assert (x + width, y + height) == (columns[-1] + 1, rows[-1] + 1)
        masks.setdefault(a["image_id"], []).append(mask)
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"])
    for image_id, image in images.items():
        assert 3 <= len(masks[image_id]) <= 8
        assert np.sum(masks[image_id], axis=0).max() == 1
        with Image.open(scenes_root / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) and picture.mode == "RGB"


def test_grounding_files_have_the_fields_of_mdetr(annotations):
    content = annotations["train_grounding"]
    assert {"images", "annotations", "categories"} <= content.keys()
    for image in content["images"]:
        assert {"file_name", "height", "width", "id", "caption"} <= image.keys()
        assert image["dataset_name"] == "scenes"
        assert image["tokens_negative"] == [[0, len(image["caption"])]]
    for a in content["annotations"]:
        assert {"id", "image_id", "category_id", "area", "iscrowd", "bbox"} <= a.keys()
        assert all(0 <= start < end for start, end in a["tokens_positive"])
