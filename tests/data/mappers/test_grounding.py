import copy
import pickle

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from glipv2_d2.data.mappers.grounding import (
    DROPPED_CROWDS,
    DROPPED_EMPTY,
    DROPPED_PHRASES,
    DROPPED_TOKENLESS,
    GroundingDatasetMapper,
)
from glipv2_d2.errors import DataError
from glipv2_d2.language.negatives import DROPPED_POSITIVES
from glipv2_d2.language.tokenizer import PromptTokenizer

CLASSES = ["cat", "caterpillar", "left shoe"]


@pytest.fixture(autouse=True)
def vocabulary():
    MetadataCatalog.get("tiny_vocabulary").set(thing_classes=CLASSES)
    yield
    MetadataCatalog.remove("tiny_vocabulary")


@pytest.fixture
def image_file(tmp_path):
    """60 x 80, left half black, right half white."""
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[:, 40:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


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


def test_long_captions_are_cut_between_words(image_file, tokenizer):
    short = PromptTokenizer(tokenizer.tokenizer, max_tokens=8)
    caption = "a cat beside a dog and caterpillars and a bird"
    annotations = [
        box(0, 0, 10, 10, spans=[[2, 5]]),
        box(20, 0, 10, 10, spans=[[15, 18], [42, 46]]),
        box(40, 0, 10, 10, spans=[[42, 46]]),
    ]
    convert = mapper(short)
    output = convert(record(image_file, annotations, caption=caption))
    assert output["prompt"].caption == "a cat beside a dog and"
    assert output["prompt"].names == ("cat", "dog")
    assert output["instances"].gt_classes.tolist() == [0, 1]
    assert convert.report.totals()[DROPPED_PHRASES] == 1
    with pytest.raises(ValueError, match=r"a\.png: the first word"):
        convert(record(image_file, [], caption="pneumonoultramicroscopic"))


def test_phrases_that_the_tokenizer_removes(image_file, tokenizer):
    caption = "a cat and \u200b\u200b there"  # zero-width characters
    annotations = [box(0, 0, 10, 10, spans=[[2, 5]]), box(20, 0, 10, 10, spans=[[10, 12]])]
    convert = mapper(tokenizer)
    output = convert(record(image_file, annotations, caption=caption))
    assert output["prompt"].names == ("cat",) and len(output["instances"]) == 1
    assert convert.report.totals()[DROPPED_TOKENLESS] == 1
    with pytest.raises(DataError, match="leaves nothing of the caption"):
        convert(record(image_file, [], caption="\u200b"))


def birds(count):
    return [{"file_name": f"{i}.png", "caption": f"the bird {i}"} for i in range(count)]


def test_how_many_negative_captions(image_file, tokenizer):
    """GLIP-L: none with probability 0.4, else all twenty or fewer, half and half."""
    convert = mapper(tokenizer, negative_captions=4, plain_caption_prob=0.4, full_captions_prob=0.5)
    convert.prepare("set", birds(1000))
    source = record(
        image_file, [box(0, 0, 9, 9, spans=[[2, 5]])], caption="a cat", dataset_name="set"
    )
    counts = [convert(source)["prompt"].caption.count("bird") for _ in range(400)]
    shares = [counts.count(n) / 400 for n in range(5)]
    # 0: 0.4 + 0.6 * 0.5 / 4; 1 to 3: 0.6 * 0.5 / 4; 4: 0.6 * 0.5
    for share, expected in zip(shares, (0.475, 0.075, 0.075, 0.075, 0.3)):
        assert abs(share - expected) < 0.1
    with pytest.raises(ValueError, match="full_captions_prob must lie"):
        mapper(tokenizer, full_captions_prob=2)


def test_where_the_own_caption_stands_among_others(image_file, tokenizer):
    convert = mapper(tokenizer, negative_captions=4)
    convert.prepare("set", birds(1000))
    for boxes in ([box(0, 0, 9, 9, spans=[[2, 5]])], []):
        source = record(image_file, boxes, caption="a cat", dataset_name="set")
        prompts = [convert(source)["prompt"] for _ in range(40)]
        assert all(p.caption[slice(*p.own_span)] == "a cat" for p in prompts)
        places = {p.caption[: p.own_span[0]].count("bird") for p in prompts}
        assert {0, 4} <= places  # before all others and behind them
    plain = mapper(tokenizer)(source)["prompt"]
    assert plain.own_span is None


def polygon(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def rle(x, y, w, h, compressed=True):
    mask = np.zeros((60, 80), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    if compressed:
        return mask_util.encode(mask)
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [60, 80], "counts": np.diff([0, *changes, flat.size]).tolist()}


@pytest.mark.parametrize("make", [polygon, rle, lambda *a: rle(*a, compressed=False)])
@pytest.mark.parametrize("crop", [False, True])
def test_masks(image_file, tokenizer, make, crop):
    source = detection(
        image_file,
        box(10, 10, 20, 20, category_id=0, segmentation=make(10, 10, 20, 20)),
        box(50, 20, 20, 10, category_id=1, segmentation=make(50, 20, 20, 10)),
    )
    augmentations = [T.CropTransform(20, 0, 60, 60)] if crop else [T.HFlipTransform(80)]
    options = {"max_classes": 1, "use_masks": True, "recompute_boxes": crop}
    instances = mapper(tokenizer, augmentations, **options)(source)["instances"]
    assert instances.gt_masks.tensor.dtype == torch.bool
    assert instances.gt_masks.tensor.shape == (2, 60, 60 if crop else 80)
    expected = [[0, 10, 10, 30], [30, 20, 50, 30]] if crop else [[50, 10, 70, 30], [10, 20, 30, 30]]
    assert instances.gt_boxes.tensor.tolist() == expected
    assert instances.gt_masks.get_bounding_boxes().tensor.tolist() == expected


def test_masks_are_all_or_none(image_file, tokenizer):
    with_mask = box(10, 10, 20, 20, category_id=0, segmentation=polygon(10, 10, 20, 20))
    without = box(10, 10, 20, 20, category_id=0)
    convert = mapper(tokenizer, use_masks=True)
    assert not convert(detection(image_file, without))["instances"].has("gt_masks")
    with pytest.raises(ValueError, match=r"a\.png: 1 of 2 annotations have no segmentation"):
        convert(detection(image_file, with_mask, without))
    wrong = {**with_mask, "segmentation": mask_util.encode(np.ones((9, 9), np.uint8, order="F"))}
    with pytest.raises(ValueError, match=r"mask has the size \(9, 9\)"):
        convert(detection(image_file, wrong))
    assert not mapper(tokenizer)(detection(image_file, with_mask))["instances"].has("gt_masks")
    with pytest.raises(ValueError, match="recompute_boxes"):
        mapper(tokenizer, recompute_boxes=True)


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
