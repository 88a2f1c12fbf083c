"""What is said of vocabularies that exporters write, and of classes that read alike."""

import json

import pytest
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from glipv2_d2.data import load_records
from glipv2_d2.language.class_names import (
    PhraseNames,
    alike_warning,
    bare_name,
    class_labels,
    detection_classes,
    near_duplicates,
    root_class_warning,
    written_alike,
)


def metadata(names, ids=None):
    result = Metadata(name="some", thing_classes=names)
    if ids is not None:
        result.set(thing_dataset_id_to_contiguous_id={c: i for i, c in enumerate(ids)})
    return result


def test_which_names_are_written_alike():
    names = ["Bolt_M4", "bolt m4", "bow_(weapon)", "bow_(ribbons)", "nut", "(ok)", "(broken)"]
    assert written_alike(names) == [(0, 1), (0, 1), (2, 3), (2, 3), (4,), (5,), (6,)]
    assert written_alike(["caf\u00e9", "Cafe\u0301", "cafe"]) == [(0, 1), (0, 1), (2,)]


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("person", "person"),
        ("a person", "person"),
        ("Person,", "person"),
        ("The persons", "persons"),
        ("an  apple.", "apple"),
        ('the "a-frame"', "a-frame"),
        ("another man", "another man"),
        ("thermos", "thermos"),
        ("vitamin a", "vitamin a"),
        ("cafe\u0301", "caf\u00e9"),
        ("c++", "c++"),  # symbols are no punctuation
        ("\u0915\u093f\u0924\u093e\u092c\u0947", "\u0915\u093f\u0924\u093e\u092c\u0947"),
        # Nothing may become empty, and thereby one with others of its kind.
        ("a", "a"),
        ("The", "the"),
        ("an,", "an"),
        ("the a", "a"),
        ("...", "..."),
        ("?", "?"),
        ("(of nothing)", None),
    ],
)
def test_what_counts_of_a_name(name, bare):
    assert bare_name(name) == bare


def test_classes_of_a_data_set(coco_json, images):
    register_coco_instances("tiny_unread", {}, str(coco_json), str(images))
    assert detection_classes("tiny_unread") is None  # its json names them
    assert detection_classes("tiny_unread", read=True) == ["cat", "caterpillar", "cat_food"]
    MetadataCatalog.get("tiny_phrases").thing_classes = PhraseNames(["red kite"])
    assert detection_classes("tiny_phrases", read=True) is None


def test_labels_are_unique_and_say_the_id_of_the_json():
    assert class_labels(metadata(["bolt", "Bolt", "bolt"], [3, 5, 9])) == [
        "bolt (id 3)",
        "Bolt",
        "bolt (id 9)",
    ]
    assert class_labels(metadata(["a", "a"])) == ["a (id 0)", "a (id 1)"]
    assert class_labels(Metadata(name="captions")) == []


def test_alike_classes_are_named_with_their_ids():
    assert alike_warning(metadata(["cat", "dog"])) is None
    text = alike_warning(metadata(["bolt", "nut", "bolt"], [1, 2, 3]))
    assert "'bolt' (id 1) = 'bolt' (id 3). The model cannot tell them apart" in text
    assert alike_warning(metadata(list("aabbccddeeffgg"))).count(" = ") == 5
    assert "and 2 more" in alike_warning(metadata(list("aabbccddeeffgg")))


@pytest.mark.parametrize(
    ("categories", "used", "named"),
    [
        # Roboflow
        ([(0, "Workers", "none"), (1, "head", "Workers"), (2, "vest", "Workers")], [1], [0]),
        ([(0, "raccoon", "none"), (1, "raccoon", "raccoon")], [1], [0]),
        # labelme, and what Datumaro makes of VOC
        ([(0, "_background_", None), (1, "cat", None)], [1], [0]),
        ([(1, "background", ""), (2, "cat", "")], [], [1]),
        # COCO's person is its own supercategory; a class that has boxes is one.
        ([(1, "person", "person"), (2, "car", "vehicle")], [2], []),
        ([(0, "fruit", "none"), (1, "apple", "fruit")], [0, 1], []),
    ],
)
def test_classes_that_an_exporter_added(categories, used, named):
    entries = [{"id": i, "name": name, "supercategory": s} for i, name, s in categories]
    text = root_class_warning(entries, used) or ""
    assert [i for i, name, _ in categories if f"{name!r} (id {i})" in text] == named
    assert not named or "remove them from 'categories'" in text


def test_a_vocabulary_of_any_size_is_looked_through_once():
    class Entry(dict):
        looked_up = 0

        def __getitem__(self, key):
            Entry.looked_up += 1
            return super().__getitem__(key)

    entries = [Entry(id=i, name=f"class {i}", supercategory="thing") for i in range(500)]
    assert root_class_warning(entries, range(500)) is None
    assert Entry.looked_up < 10 * 500  # not 500 * 500


def test_whoever_reads_the_data_is_told_once(coco_json, images, caplog):
    content = json.loads(coco_json.read_text())
    content["categories"] = [
        {"id": 0, "name": "zoo", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "zoo"},
        {"id": 2, "name": "dog", "supercategory": "zoo"},
        {"id": 3, "name": "Dog", "supercategory": "zoo"},
    ]
    coco_json.write_text(json.dumps(content))
    name = "tiny_doubtful"
    register_coco_instances(name, {}, str(coco_json), str(images))
    assert len(load_records(name)) == 12  # nothing is left out
    lines = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(lines) == 2 and all("data set 'tiny_doubtful'" in line for line in lines)
    assert "'zoo' (id 0), the supercategory of 'cat', 'dog', 'Dog'" in lines[0]
    assert "'dog' (id 2) = 'Dog' (id 3)" in lines[1]


def test_names_that_are_perhaps_one_class():
    names = ["helmet", "Helmets", "hel-met", "helmat", "box", "boxes", "house", "mouse",
             "zone 1", "zone 2", "bolt", "Bolt"]  # fmt: skip
    pairs = near_duplicates(names)
    assert ("helmet", "Helmets") in pairs and ("helmet", "hel-met") in pairs
    assert ("helmet", "helmat") in pairs and ("box", "boxes") in pairs
    assert not {"house", "mouse", "zone 1", "zone 2", "bolt"} & {n for pair in pairs for n in pair}
