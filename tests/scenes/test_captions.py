import re

import numpy as np
import pytest

from glipv2_d2.data.datasets.scenes import COLORS, HELD_OUT_PAIRS, SHAPES
from glipv2_d2.scenes.captions import PLURALS, CaptionWriter
from glipv2_d2.scenes.render import footprint, make_object

SINGULAR = {**{plural: shape for shape, plural in PLURALS.items()}, **{s: s for s in SHAPES}}
NUMBERS = {"a": 1, "two": 2, "three": 3, "four": 4}
SELECTIVE = re.compile(
    r"small|large|most|lowest|left of|right of|above|below"
)  # words by which a phrase may mean fewer objects than its noun fits


def place(color, shape, diameter, x, y, size=192):
    """An object centered at (x, y) that nothing hides."""
    item = make_object(np.random.default_rng(0), color, shape, diameter)
    item.left, item.top = x - item.mask.shape[1] // 2, y - item.mask.shape[0] // 2
    item.visible = footprint(item, size)
    item.visibility = 1.0
    return item


@pytest.fixture
def scene():
    return [
        place("red", "star", 26, 40, 90),
        place("red", "star", 66, 150, 90),
        place("blue", "ring", 44, 90, 90),
        place("yellow", "circle", 44, 90, 30),
    ]


def captions_of(objects, template, count=60):
    writer = CaptionWriter(objects, 192)
    rng = np.random.default_rng(0)
    written = (getattr(writer, template)(rng) for _ in range(count))
    return {c.text: dict(c.spans) for c in written if c is not None}


def test_relations_tell_two_of_a_kind_apart(scene):
    captions = captions_of(scene, "relation", 400)
    assert "the small red star left of the blue ring" in captions
    spans = captions["the small red star left of the blue ring"]
    assert spans == {0: [(4, 18)], 2: [(31, 40)]}
    assert "the large red star right of the blue ring" in captions
    # Both stars are below the circle, and neither is to be called "the red star" for it.
    assert not any(text.startswith("the red star below") for text in captions)


def test_the_relation_alone_may_tell_apart():
    objects = [
        place("red", "star", 44, 30, 90),
        place("red", "star", 44, 150, 90),
        place("blue", "ring", 44, 90, 90),
    ]
    captions = captions_of(objects, "relation", 100)
    assert captions["the red star left of the blue ring"][0] == [(4, 12)]
    assert captions["the red star right of the blue ring"][1] == [(4, 12)]
    assert all("blue ring" in text.split("the ")[-1] for text in captions)


def test_superlatives_need_a_margin(scene):
    captions = captions_of(scene, "superlative", 200)
    assert list(captions["the smallest red star"]) == [0]
    assert list(captions["the rightmost star"]) == [1]
    equal = [place("red", "star", 44, 40, 90), place("red", "star", 44, 42, 150)]
    texts = captions_of(equal, "superlative", 100)
    assert texts and not any(re.search("smallest|largest|leftmost|rightmost", t) for t in texts)


def test_a_box_may_belong_to_two_phrases(scene):
    captions = captions_of(scene, "attributes", 300)
    text, spans = next(
        (text, spans)
        for text, spans in captions.items()
        if "everything red" in text and "stars" in text
    )
    assert len(spans[0]) == 2
    assert {text[start:end] for start, end in spans[0]} == {"red", "stars"}


def check_phrase(image, text, start, end, members, objects):
    """One phrase against what there is, by rules of its own."""
    phrase = text[start:end]
    words = phrase.split()
    color = next((w for w in words if w in COLORS), None)
    shape = next((SINGULAR[w] for w in words if w in SINGULAR), None)
    assert color or shape, phrase
    assert start == 0 or text[start - 1] == " "
    assert end == len(text) or text[end] in " ,"
    fits = {i for i, (c, s) in objects.items() if (color in (None, c)) and (shape in (None, s))}
    assert members <= fits, (image, text, phrase)
    if not SELECTIVE.search(text):
        assert members == fits, (image, text, phrase)
    else:
        assert len(members) == 1, (image, text, phrase)
    number = text[:start].split()[-1] if text[:start].split() else ""
    if number in NUMBERS:
        assert len(members) == NUMBERS[number], (image, text, phrase)


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_phrase_of_the_files_is_true(annotations, split):
    detection, grounding = annotations[split], annotations[f"{split}_grounding"]
    names = {c["id"]: tuple(c["name"].split()) for c in detection["categories"]}
    assert grounding["images"]
    for image in grounding["images"]:
        objects = {
            tuple(a["bbox"]): names[a["category_id"]]
            for a in detection["annotations"]
            if a["image_id"] == image["original_id"]
        }
        boxes = [a for a in grounding["annotations"] if a["image_id"] == image["id"]]
        assert boxes
        phrases = {tuple(span) for a in boxes for span in a["tokens_positive"]}
        for start, end in phrases:
            members = {tuple(a["bbox"]) for a in boxes if [start, end] in a["tokens_positive"]}
            check_phrase(image["id"], image["caption"], start, end, members, objects)
        said = sum(
            word in SINGULAR or word in COLORS for word in re.findall(r"\w+", image["caption"])
        )
        inside = sum(
            word in SINGULAR or word in COLORS
            for start, end in phrases
            for word in image["caption"][start:end].split()
        )
        assert said == inside  # no color or shape is named outside a phrase


def test_directions_of_the_files_are_true(annotations):
    grounding = annotations["train_grounding"]
    pattern = re.compile(r"the ((?:\w+ )+?)(left of|right of|above|below) the ([\w ]+?)(?: and |$)")
    checked = 0
    for image in grounding["images"]:
        centers = {}
        for a in grounding["annotations"]:
            if a["image_id"] == image["id"]:
                x, y, w, h = a["bbox"]
                for start, _ in a["tokens_positive"]:
                    centers[start] = (x + w / 2, y + h / 2)
        for match in pattern.finditer(image["caption"]):
            subject, other = centers[match.start(1)], centers[match.start(3)]
            axis = 0 if match[2] in ("left of", "right of") else 1
            difference = subject[axis] - other[axis]
            assert (difference < 0) == (match[2] in ("left of", "above")), image["caption"]
            checked += 1
    assert checked > 10


def test_held_out_pairs_are_in_no_caption(annotations):
    pairs = "|".join(rf"{color}\W+{shape}" for color, shape in HELD_OUT_PAIRS)
    for image in annotations["train_grounding"]["images"]:
        assert not re.search(pairs, image["caption"])
