"""A data set in two parts: seeded, stratified, equal images together."""

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from glipv2_d2.data.split import split_records


@pytest.fixture
def records(tmp_path):
    """records(list of classes per image, contents=which pixels each has) -> records."""

    def make(classes, contents=None):
        made = []
        for i, labels in enumerate(classes):
            path = tmp_path / f"{i}.bmp"  # of one size, whatever the pixels are
            seed = i if contents is None else contents[i]
            pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
            annotations = [{"category_id": label} for label in labels]
            made.append({"file_name": str(path), "annotations": annotations})
        return made

    return make


def images_of_classes(part):
    return Counter(a["category_id"] for record in part for a in record["annotations"])


def test_every_class_has_its_share_in_both_parts(records):
    # 40 images of class 0, some of which have the rarer classes, too.
    rows = [[0] + [1] * (i % 4 == 0) + [2] * (i % 8 == 0) for i in range(40)]
    train, val = split_records(records(rows), 0.25, seed=3)
    counts = images_of_classes(val)
    assert counts[0] == 10 and counts[1] in (2, 3) and counts[2] == 1
    assert images_of_classes(train) == {0: 30, 1: 10 - counts[1], 2: 4}


def test_the_seed_decides_and_the_order_of_the_records_stays(records):
    made = records([[i % 3] for i in range(30)])
    first, second = split_records(made, 0.2, seed=1), split_records(made, 0.2, seed=1)
    assert first == second
    assert first.val != split_records(made, 0.2, seed=2).val
    assert first.train == [r for r in made if r in first.train]


def test_a_rare_class_is_not_taken_from_training(records):
    made = records([[0]] * 20 + [[1]] * 2)
    train, val = split_records(made, 0.2)
    assert images_of_classes(train)[1] == 2 and images_of_classes(val) == {0: 4}


def test_where_all_classes_are_rare_each_keeps_an_image(records):
    # By its own share no class of two images has one to spare.
    train, val = split_records(records([[i // 2] for i in range(90)]), 0.2)
    assert len(val) == 18 and len(images_of_classes(train)) == 45
    # No class is spared twice before all others are.
    train, val = split_records(records([[i // 3] for i in range(90)]), 0.1)
    assert len(val) == 9 and max(images_of_classes(val).values()) == 1
    # There is room for two, and nothing to spare.
    train, val = split_records(records([[0], [0], [1], [2], [3]]), 0.4)
    assert images_of_classes(val) == {0: 1} and len(images_of_classes(train)) == 4


def test_images_without_boxes_are_dealt_out_like_a_class(records):
    train, val = split_records(records([[0]] * 20 + [[]] * 10), 0.2)
    assert [sum(not r["annotations"] for r in part) for part in (train, val)] == [8, 2]


def test_crowd_regions_are_no_images_of_a_class(records):
    made = records([[0]] * 10)
    made[0]["annotations"].append({"category_id": 1, "iscrowd": 1})
    train, val = split_records(made, 0.2)
    assert len(val) == 2 and len(train) == 8


def test_equal_images_stay_together(records):
    contents = [i // 2 for i in range(20)]  # each image twice
    made = records([[0]] * 20, contents)
    random.Random(0).shuffle(made)
    train, val = split_records(made, 0.3)
    pixels = [{open(r["file_name"], "rb").read() for r in part} for part in (train, val)]
    assert len(val) == 6 and not pixels[0] & pixels[1]


def test_some_image_is_always_left_to_validate_on(records):
    train, val = split_records(records([[0], [0], [1]]), 0.1)
    assert len(val) == 1 and images_of_classes(val) == {0: 1}  # the only image of 1 is trained on


def test_what_cannot_be_split(records):
    with pytest.raises(ValueError, match="equal content"):
        split_records(records([[0], [0]], contents=[5, 5]), 0.5)
