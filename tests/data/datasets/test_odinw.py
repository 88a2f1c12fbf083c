import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from glipv2_d2.data import load_records
from glipv2_d2.data.datasets.odinw import ODINW_ROWS, odinw_files, odinw_names, register_odinw
from glipv2_d2.errors import DataError
from glipv2_d2.language import Prompt

ROWS = {row.name: row for row in ODINW_ROWS}


def test_the_suites():
    assert len(ODINW_ROWS) == len(ROWS) == 35
    assert len(odinw_names(13)) == 13 and len(odinw_names(35)) == 35
    # As in the list of the issue that this implements, and in the paper's Table 7.
    assert {name.removeprefix("odinw_").removesuffix("_test") for name in odinw_names(13)} == {
        "AerialMaritimeDrone_large",
        "Aquarium",
        "CottontailRabbits",
        "EgoHands_generic",
        "NorthAmericaMushrooms",
        "Packages",
        "PascalVOC",
        "pistols",
        "pothole",
        "Raccoon",
        "ShellfishOpenImages",
        "thermalDogsAndPeople",
        "VehiclesOpenImages",
    }
    registered = set(DatasetCatalog.list())
    for suite in (13, 35):
        for split in ("train", "val", "test", "select", "fewshot_train_shot3_seed30"):
            assert set(odinw_names(suite, split)) <= registered
    chosen = [name for name in odinw_names(13, "select") if name.endswith("minival")]
    assert chosen == ["odinw_EgoHands_generic_minival", "odinw_VehiclesOpenImages_minival"]
    with pytest.raises(ValueError, match="suites of 13 and 35"):
        odinw_names(14)
    with pytest.raises(ValueError, match="unknown ODinW split 'tset'"):
        odinw_names(13, "tset")


def test_files():
    files = odinw_files(ROWS["EgoHands_generic"])
    annotations = "annotations_without_background.json"
    folder = "EgoHands/generic/mini_val"
    assert files["minival"] == (f"{folder}/{annotations}", folder)
    assert files["val"][1] == "EgoHands/generic/valid"
    few = files["fewshot_train_shot10_seed300"]
    folder = "EgoHands/generic/train"
    assert few == (f"{folder}/fewshot_train_shot10_seed300.json", folder)
    assert "fewshot_minival_shot1_seed3" in files and len(files) == 4 + 3 * 12
    pistols = odinw_files(ROWS["pistols"])["val"]
    assert pistols == (f"pistols/export/val_{annotations}", "pistols/export")
    voc = odinw_files(ROWS["PascalVOC"])
    assert voc["test"] == voc["val"] == (f"PascalVOC/valid/{annotations}", "PascalVOC/valid")


def test_every_name_can_be_asked():
    for row in ODINW_ROWS:
        for names in (row.classes, row.names_35 or row.classes):
            assert len(Prompt.from_classes(names)) == len(row.classes)
        assert len(row.knowledge) in (0, len(row.classes))


def test_overrides_and_knowledge():
    def get(name):
        return MetadataCatalog.get(name)

    assert get("odinw_CottontailRabbits_test").thing_classes == ["Cottontail-Rabbit"]
    assert get("odinw35_CottontailRabbits_test").thing_classes == ["rabbit"]
    assert "odinw35_CottontailRabbits_test" in odinw_names(35)
    assert get("odinw_pothole_test").caption_knowledge == {
        "pothole": {"prefix": "there are some ", "name": "holes", "suffix": " on the road"}
    }
    with_knowledge = [n for n in odinw_names(35) if get(n).get("caption_knowledge")]
    names = [n.split("_")[1] for n in with_knowledge]
    assert names == ["Aquarium", "EgoHands", "Packages", "pothole"]
    assert get("odinw_PascalVOC_val").evaluator_type == "coco" and get("odinw_PascalVOC_val").odinw


@pytest.fixture
def rabbits(tmp_path):
    """CottontailRabbits below a root of its own."""
    folder = tmp_path / "odinw" / "CottontailRabbits" / "test"
    folder.mkdir(parents=True)
    content = {
        "images": [{"id": 4, "file_name": "a.jpg", "height": 60, "width": 80}],
        "annotations": [{"id": 1, "image_id": 4, "category_id": 1, "bbox": [1, 1, 9, 9]}],
        "categories": [{"id": 1, "name": "rabbit-2", "supercategory": "x"}],
    }
    (folder / "annotations_without_background.json").write_text(json.dumps(content))
    names = ["odinw_CottontailRabbits_test", "odinw35_CottontailRabbits_test"]
    kept = {n: (DatasetCatalog.pop(n), MetadataCatalog.pop(n)) for n in names}
    register_odinw(str(tmp_path))
    yield folder / "annotations_without_background.json"
    for name, (load, metadata) in kept.items():
        DatasetCatalog[name], MetadataCatalog[name] = load, metadata


def test_loading(rabbits):
    record = load_records("odinw_CottontailRabbits_test")[0]
    assert record["annotations"][0]["category_id"] == 0
    assert record["file_name"] == str(rabbits.with_name("a.jpg"))
    classes = MetadataCatalog.get("odinw_CottontailRabbits_test").thing_classes
    assert classes == ["Cottontail-Rabbit"]
    load_records("odinw35_CottontailRabbits_test")
    content = json.loads(rabbits.read_text())
    content["categories"][0]["id"] = content["annotations"][0]["category_id"] = 0
    rabbits.write_text(json.dumps(content))
    with pytest.raises(DataError, match="do not fit thing_dataset_id_to_contiguous_id"):
        load_records("odinw_CottontailRabbits_test")
