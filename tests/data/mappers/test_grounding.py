import copy
import pickle

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError
from PIL import Image

from glipv2_d2.data.mappers.grounding import (
    DROPPED_CROWDS,
    DROPPED_EMPTY,
)
from glipv2_d2.language.negatives import DROPPED_POSITIVES
from glipv2_d2.language.tokenizer import PromptTokenizer
from tests.support.record_mapping import box, detection, mapper, record

CLASSES = ["cat", "caterpillar", "left shoe"]


FLIP = [T.RandomFlip(prob=1.0)]


def test_detection(image_file, tokenizer):
    source = detection(image_file, box(5, 5, 20, 30, category_id=1), box(0, 0, 9, 9, category_id=0))
    before = copy.deepcopy(source)
    output = mapper(tokenizer, [T.Resize((120, 160))])(source)
    assert source == before
    assert output["image"].shape == (3, 120, 160) and output["image"].dtype == torch.uint8
    assert (output["height"], output["width"], output["image_id"]) == (60, 80, 5)
    instances, prompt = output["instances"], output["prompt"]
    assert instances.image_size == (120, 160)
    assert instances.gt_boxes.tensor.tolist() == [[10, 10, 50, 70], [0, 0, 18, 18]]
    assert [prompt.names[i] for i in instances.gt_classes] == ["caterpillar", "cat"]
    assert [prompt.class_ids[i] for i in instances.gt_classes] == [1, 0]


def test_image_without_boxes_is_kept(image_file, tokenizer):
    output = mapper(tokenizer, use_masks=True)(detection(image_file))
    assert len(output["instances"]) == 0 and len(output["prompt"]) >= 1
    assert output["instances"].gt_boxes.tensor.shape == (0, 4)
    assert output["instances"].gt_masks.tensor.shape == (0, 60, 80)
    caption = record(image_file, [], caption="nothing to see")
    output = mapper(tokenizer)(caption)
    assert len(output["instances"]) == 0 and output["prompt"].names == ("nothing to see",)


def test_crowds_are_neither_boxes_nor_negatives(image_file, tokenizer):
    crowd = box(0, 0, 9, 9, category_id=0)
    crowd["iscrowd"] = 1
    convert = mapper(tokenizer, full_prompt_prob=1.0)
    output = convert(detection(image_file, crowd, box(5, 5, 20, 30, category_id=1)))
    assert len(output["instances"]) == 1
    assert set(output["prompt"].names) == {"caterpillar", "left shoe"}
    assert convert.report.totals()[DROPPED_CROWDS] == 1


def test_boxes_of_dropped_positives_are_counted(image_file, tokenizer):
    short = PromptTokenizer(tokenizer.tokenizer, max_tokens=6)  # caterpillar is three tokens
    convert = mapper(short)
    source = detection(image_file, *(box(5, 5, 20, 30, category_id=i) for i in (0, 1, 1, 2)))
    seen = set()
    for _ in range(20):
        output = convert(source)
        names = output["prompt"].names
        assert [names[i] for i in output["instances"].gt_classes].count("caterpillar") in (0, 2)
        assert {names[i] for i in output["instances"].gt_classes} == set(names)
        seen.update(names)
    assert seen == set(CLASSES)  # another subset each time
    assert convert.report.totals()[DROPPED_POSITIVES] >= 20


def test_boxes_that_a_crop_removes(image_file, tokenizer):
    convert = mapper(tokenizer, [T.CropTransform(0, 0, 40, 60)])
    output = convert(
        detection(image_file, box(5, 5, 20, 30, category_id=0), box(50, 5, 20, 30, category_id=1))
    )
    assert output["instances"].gt_boxes.tensor.tolist() == [[5, 5, 25, 35]]
    assert convert.report.totals()[DROPPED_EMPTY] == 1


def test_flip(image_file, tokenizer):
    source = record(image_file, [box(0, 0, 10, 10, spans=[[2, 5]])], caption="a cat, bright")
    output = mapper(tokenizer, FLIP)(source)
    assert output["instances"].gt_boxes.tensor.tolist() == [[70, 0, 80, 10]]
    assert output["image"][0, 0, 0] == 255 and output["image"][0, 0, -1] == 0


@pytest.mark.parametrize(
    "augmentations",
    [
        FLIP,
        [T.ResizeShortestEdge(120, 500), *FLIP],
        [T.RandomApply(T.AugmentationList(FLIP), prob=1.0), T.ResizeShortestEdge(120, 500)],
        [*FLIP, *FLIP, *FLIP],
    ],
)
def test_left_stays_left(image_file, tokenizer, augmentations):
    caption = "the cat on the Left side"
    source = record(image_file, [box(0, 0, 10, 10, spans=[[4, 7]])], caption=caption)
    output = mapper(tokenizer, augmentations)(source)
    scale = output["image"].shape[1] / 60
    assert output["instances"].gt_boxes.tensor.tolist() == [[0, 0, 10 * scale, 10 * scale]]
    assert output["image"][0, 0, 0] == 0 and output["image"][0, 0, -1] == 255


@pytest.mark.parametrize(
    ("words", "flipped"),
    [
        ("rightmost", False),
        ("left-hand", False),
        ("RIGHT", False),
        ("bright", True),
        ("leftover", True),
        ("upright", True),
    ],
)
def test_words_of_direction(image_file, tokenizer, words, flipped):
    source = record(image_file, [box(0, 0, 10, 10, spans=[[0, 3]])], caption=f"cat {words}")
    boxes = mapper(tokenizer, FLIP)(source)["instances"].gt_boxes.tensor
    assert (boxes[0, 0] == 70).item() == flipped


def test_class_names_with_left_are_not_flipped(image_file, tokenizer):
    convert = mapper(tokenizer, FLIP, full_prompt_prob=1.0)
    output = convert(detection(image_file, box(0, 0, 10, 10, category_id=0)))
    assert "left shoe" in output["prompt"].names
    assert output["instances"].gt_boxes.tensor.tolist() == [[0, 0, 10, 10]]


def test_grounding_phrases(image_file, tokenizer):
    caption = "red and blue balls near a dog"
    annotations = [
        box(50, 0, 10, 10, spans=[[26, 29]]),
        box(0, 0, 10, 10, spans=[[13, 18], [0, 3]]),
        box(20, 0, 10, 10, spans=[[8, 18]]),
        box(30, 0, 10, 10, spans=[[0, 3], [13, 18]]),
        box(60, 0, 10, 10, spans=[[0, 3], [8, 18]]),  # two phrases: the union of their spans
    ]
    output = mapper(tokenizer)(record(image_file, annotations, caption=caption))
    prompt = output["prompt"]
    assert prompt.caption == caption and prompt.kind == "grounding"
    assert prompt.names == ("red blue balls", "red balls", "blue balls", "dog")
    assert output["instances"].gt_classes.tolist() == [3, 1, 2, 1, 0]


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16", "P", "1"])
def test_image_modes(tmp_path, tokenizer, mode):
    image = Image.fromarray(np.full((60, 80), 65535, dtype=np.uint16))
    if mode != "I;16":
        image = Image.new("RGB", (80, 60), (255, 255, 255)).convert(mode)
    image.save(tmp_path / "a.png")
    output = mapper(tokenizer)(detection(str(tmp_path / "a.png")))
    assert output["image"].shape == (3, 60, 80) and (output["image"] == 255).all()


def test_bgr_and_rgb(tmp_path, tokenizer):
    Image.new("RGB", (80, 60), (250, 0, 0)).save(tmp_path / "a.png")
    source = detection(str(tmp_path / "a.png"))
    assert mapper(tokenizer)(source)["image"][:, 0, 0].tolist() == [0, 0, 250]
    rgb = mapper(tokenizer, image_format="RGB")(source)
    assert rgb["image"][:, 0, 0].tolist() == [250, 0, 0]


def test_wrong_size_and_missing_image(image_file, tokenizer):
    source = detection(image_file)
    source["width"] = 60
    with pytest.raises(SizeMismatchError, match=r"a\.png"):
        mapper(tokenizer)(source)
    source["file_name"] += ".missing"
    with pytest.raises(FileNotFoundError, match="missing"):
        mapper(tokenizer)(source)


def test_unknown_vocabulary(image_file, tokenizer):
    source = detection(image_file)
    del source["dataset_name"]
    with pytest.raises(ValueError, match="neither a caption nor a dataset_name"):
        mapper(tokenizer)(source)
    assert len(mapper(tokenizer, dataset_name="tiny_vocabulary")(source)["prompt"])
    source["dataset_name"] = "tiny_without_names"
    with pytest.raises(ValueError, match="has no class names"):
        mapper(tokenizer)(source)


def test_evaluation_inputs(image_file, tokenizer):
    convert = mapper(tokenizer, is_train=False)
    output = convert(detection(image_file, box(0, 0, 9, 9, category_id=0)))
    assert [p.caption for p in output["prompt"]] == ["cat. caterpillar. left shoe"]
    assert "instances" not in output and "annotations" not in output
    source = record(
        image_file,
        [box(0, 0, 9, 9, spans=[[2, 5]])],
        caption="a cat and a dog",
        phrases=[[[12, 15]], [[2, 5]]],
        sentence_id=3,
    )
    output = convert(source)
    assert output["prompt"][0].names == ("dog", "cat") and output["sentence_id"] == 3
    del source["phrases"]
    assert convert(source)["prompt"][0].names == ("cat",)
    anonymous = detection(image_file)
    del anonymous["dataset_name"]
    assert "prompt" not in convert(anonymous)


def test_pickle(image_file, tokenizer):
    convert = pickle.loads(pickle.dumps(mapper(tokenizer, FLIP)))
    assert len(convert(detection(image_file))["prompt"])
