from collections import Counter

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools.coco import COCO

from glipv2_d2.data.datasets import scenes
from glipv2_d2.data.datasets.scenes import ALL_CLASSES, BASE_CLASSES, NOVEL_CLASSES
from glipv2_d2.errors import DataError
from glipv2_d2.scenes.build import build_scenes
from tests.support.benchmark_tree import catalogs_at

NAMES = (
    "scenes_train",
    "scenes_train_grounding",
    "scenes_val",
    "scenes_val_grounding",
    "scenes_novel",
)

QUESTIONS = tuple(f"scenes_{split}_vqa" for split in ("train", "val", "novel"))
CAPTIONS = tuple(f"scenes_{split}_caption" for split in ("train", "val", "novel"))
TO_WRITE = (*CAPTIONS[1:], "scenes_val_grounded_caption", "scenes_novel_grounded_caption")
GROUNDED = tuple(
    f"scenes_{split}_{kind}_grounding"
    for split in ("train", "val", "novel")
    for kind in ("vqa", "caption")
)


@pytest.fixture
def registered(tmp_path):
    """The catalogs as of a folder of data sets, in which nothing is rendered yet."""
    with catalogs_at(tmp_path):
        yield tmp_path


def test_twelve_balanced_pairs_are_held_out():
    assert len(set(scenes.HELD_OUT_PAIRS)) == 12
    assert len(scenes.ALL_PAIRS) == 64 and len(scenes.BASE_PAIRS) == 52
    assert not set(scenes.BASE_PAIRS) & set(scenes.HELD_OUT_PAIRS)
    assert set(NOVEL_CLASSES) == set(ALL_CLASSES) - set(BASE_CLASSES)
    for position, words in enumerate((scenes.COLORS, scenes.SHAPES)):
        lost = Counter(pair[position] for pair in scenes.HELD_OUT_PAIRS)
        assert set(lost) == set(words) and set(lost.values()) == {1, 2}
        kept = Counter(pair[position] for pair in scenes.BASE_PAIRS)
        assert min(kept[word] for word in words) >= 6


def test_class_names_are_known_before_anything_is_rendered(registered):
    """They are the default vocabulary of a model: yacs' DATASETS.TEST."""
    assert MetadataCatalog.get("scenes_train").thing_classes == list(BASE_CLASSES)
    for name, evaluated in (("scenes_val", BASE_CLASSES), ("scenes_novel", NOVEL_CLASSES)):
        assert MetadataCatalog.get(name).thing_classes == list(ALL_CLASSES)
        assert MetadataCatalog.get(name).evaluated_classes == list(evaluated)
    assert MetadataCatalog.get("scenes_train_grounding").evaluator_type == "grounding"


def test_registering_reads_nothing_and_the_missing_folder_names_the_remedy(registered):
    for name in NAMES + QUESTIONS + CAPTIONS + TO_WRITE + GROUNDED:
        with pytest.raises(DataError, match=r"prepare_scenes\.py --output"):
            DatasetCatalog.get(name)
    scenes.register_all_scenes(str(registered))  # a second time changes nothing


def test_records(registered):
    build_scenes(registered / "scenes", size=64, train=4, val=2, novel=2, workers=1)
    records = {name: DatasetCatalog.get(name) for name in NAMES}
    assert [len(records[name]) for name in NAMES] == [4, 8, 2, 2, 2]
    for name in NAMES:
        assert all(record["dataset_name"] == name for record in records[name])
    first = records["scenes_train"][0]
    assert first["height"] == first["width"] == 64
    assert {"bbox", "bbox_mode", "category_id", "segmentation"} <= first["annotations"][0].keys()
    grounded = records["scenes_train_grounding"][0]
    start, end = grounded["annotations"][0]["spans"][0]
    assert grounded["caption"][start:end].strip()


def test_questions_are_the_same_with_and_without_boxes(registered):
    build_scenes(registered / "scenes", size=64, train=4, val=2, novel=2, workers=1)
    for name in QUESTIONS:
        plain, grounded = DatasetCatalog.get(name), DatasetCatalog.get(f"{name}_grounding")
        assert MetadataCatalog.get(name).evaluator_type == "vqa"
        assert len(plain) == len(grounded) >= 5
        keys = ("question_id", "original_img_id", "file_name", "height", "width", "task")
        for one, other in zip(plain, grounded):
            assert [one[key] for key in keys] == [other[key] for key in keys]
            assert f"{one['caption']} [MASK]" == other["caption"]
            assert one["answers"] == other["answers"] and "annotations" not in one
            assert one["question_type"] == other["question_type"]
            assert one["answer_type"] == other["answer_type"]


def test_captions_to_be_learned_have_boxes_for_all_their_phrases(registered):
    build_scenes(registered / "scenes", size=64, train=4, val=2, novel=2, workers=1)
    for split, most in (("train", 2), ("val", 5), ("novel", 5)):
        records = DatasetCatalog.get(f"scenes_{split}_caption_grounding")
        assert max(Counter(r["original_img_id"] for r in records).values()) == most
        if split == "train":
            plain = DatasetCatalog.get("scenes_train_caption")
            assert [r["caption"] for r in plain] == [r["caption"] for r in records]
        for record in records:
            spans = {tuple(span) for a in record["annotations"] for span in a["spans"]}
            assert record["task"] == "caption"
            assert spans == {tuple(span) for (span,) in record["phrases"]}


def test_captions_to_be_written_have_references(registered):
    build_scenes(registered / "scenes", size=64, train=4, val=2, novel=2, workers=1)
    for name in TO_WRITE:
        records = DatasetCatalog.get(name)
        assert len(records) == 2 and not any("caption" in record for record in records)
        assert all(4 <= len(r["references"]) <= 5 and r["task"] == "caption" for r in records)
    assert MetadataCatalog.get("scenes_val_caption").evaluator_type == "caption"
    assert MetadataCatalog.get("scenes_val_grounded_caption").evaluator_type == "grounded_caption"


def test_names_that_may_be_absent(registered):
    """Of all 64: also of the pairs that training never shows."""
    build_scenes(registered / "scenes", size=64, train=4, val=2, novel=2, workers=1)
    for split in ("val", "novel"):
        records = DatasetCatalog.get(f"scenes_{split}_absent")
        boxes = DatasetCatalog.get(f"scenes_{split}")
        assert MetadataCatalog.get(f"scenes_{split}_absent").evaluator_type == "gated_f1"
        for record, detection in zip(records, boxes, strict=True):
            present = {ALL_CLASSES[a["category_id"]] for a in detection["annotations"]}
            names = record["caption"].split(". ")
            assert present < set(names) <= set(ALL_CLASSES) and len(names) == 2 * len(present)
            assert len(record["annotations"]) == len(detection["annotations"])


def test_training_class_indices_go_by_name(registered):
    build_scenes(registered / "scenes", size=64, train=6, val=1, novel=1, workers=1)
    api = COCO(str(registered / "scenes/annotations/train.json"))
    for record in DatasetCatalog.get("scenes_train"):
        names = [api.cats[a["category_id"]]["name"] for a in api.imgToAnns[record["image_id"]]]
        assert names == [BASE_CLASSES[a["category_id"]] for a in record["annotations"]]
