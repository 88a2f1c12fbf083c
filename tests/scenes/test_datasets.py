import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from glipv2_d2.errors import DataError
from glipv2_d2.scenes.build import build_scenes
from glipv2_d2.scenes.datasets import register_all_scenes
from glipv2_d2.scenes.vocabulary import ALL_CLASSES, BASE_CLASSES, NOVEL_CLASSES

NAMES = (
    "scenes_train",
    "scenes_train_grounding",
    "scenes_val",
    "scenes_val_grounding",
    "scenes_novel",
)


@pytest.fixture
def registered(tmp_path):
    """Registers the names below tmp_path, and puts back what was there."""
    before = {n: DatasetCatalog[n] for n in NAMES if n in DatasetCatalog.list()}
    metadata = {n: MetadataCatalog.pop(n) for n in NAMES if n in MetadataCatalog}
    for name in before:
        DatasetCatalog.remove(name)
    register_all_scenes(str(tmp_path))
    yield tmp_path
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)
    for name, load in before.items():
        DatasetCatalog.register(name, load)
    for name, fields in metadata.items():
        MetadataCatalog[name] = fields


def test_registering_reads_nothing_and_the_missing_folder_names_the_remedy(registered):
    for name in NAMES:
        with pytest.raises(DataError, match=r"prepare_scenes\.py --output"):
            DatasetCatalog.get(name)
    register_all_scenes(str(registered))  # a second time changes nothing


def test_records_and_metadata(registered):
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
    assert MetadataCatalog.get("scenes_train").thing_classes == list(BASE_CLASSES)
    for name, evaluated in (("scenes_val", BASE_CLASSES), ("scenes_novel", NOVEL_CLASSES)):
        assert MetadataCatalog.get(name).thing_classes == list(ALL_CLASSES)
        assert MetadataCatalog.get(name).evaluated_classes == list(evaluated)
    assert MetadataCatalog.get("scenes_train_grounding").evaluator_type == "grounding"


def test_training_class_indices_go_by_name(registered):
    build_scenes(registered / "scenes", size=64, train=6, val=1, novel=1, workers=1)
    from pycocotools.coco import COCO

    api = COCO(str(registered / "scenes/annotations/train.json"))
    for record in DatasetCatalog.get("scenes_train"):
        names = [api.cats[a["category_id"]]["name"] for a in api.imgToAnns[record["image_id"]]]
        assert names == [BASE_CLASSES[a["category_id"]] for a in record["annotations"]]
