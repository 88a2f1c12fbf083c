from detectron2.data import MetadataCatalog

from glipv2_d2.data import load_records, register_coco_dataset
from glipv2_d2.data.datasets.objects365 import OBJECTS365_V2_NAMES, clean_objects365_name
from tests.support.pretraining_files import edited


def test_objects365_v2_names_and_paths(coco_json):
    def edit(content):
        for image, folder in zip(content["images"], ("images/v1/patch8/", "images/v2/patch16/")):
            image["file_name"] = folder + image["file_name"]
        content["categories"][0]["name"] = "Moniter/TV"
        content["categories"][1]["name"] = "Cigar/Cigarette "

    register_coco_dataset(
        "tiny_o365",
        edited(coco_json, edit),
        "o365",
        reader_options={"rename": clean_objects365_name, "keep_folders": 1},
    )
    records = load_records("tiny_o365")
    assert [r["file_name"] for r in records[:2]] == ["o365/patch8/0.png", "o365/patch16/1.png"]
    names = MetadataCatalog.get("tiny_o365").thing_classes
    assert names == ["Monitor/TV", "Cigar/Cigarette", "cat_food"]
    assert not set(OBJECTS365_V2_NAMES) & set(OBJECTS365_V2_NAMES.values())
