"""LVIS json through Detectron2's reader: ids from 1, paths in coco_url, verified-absent classes."""

import json

import pytest
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets import register_lvis_instances
from detectron2.data.datasets.lvis import get_lvis_instances_meta
from PIL import Image

from glipv2_d2.data import GroundingDatasetMapper, load_records
from glipv2_d2.errors import DataError
from glipv2_d2.language.negatives import absent_class_ids

pytest.importorskip("lvis")


@pytest.fixture
def lvis_json(tmp_path, cleanup):
    names = get_lvis_instances_meta("lvis_v1")["thing_classes"]
    (tmp_path / "coco" / "val2017").mkdir(parents=True)
    images = []
    for i in (139, 285):
        Image.new("RGB", (80, 60)).save(tmp_path / "coco" / "val2017" / f"{i:012d}.jpg")
        images.append(
            {
                "id": i,
                "height": 60,
                "width": 80,
                "coco_url": f"http://images.cocodataset.org/val2017/{i:012d}.jpg",
                "neg_category_ids": [3, 1203],
                "not_exhaustive_category_ids": [7],
            }
        )
    content = {
        "images": images,
        "annotations": [
            {
                "id": i,
                "image_id": 139,
                "category_id": category,
                "bbox": [5, 5, 20, 20],
                "area": 400,
                "segmentation": [[5, 5, 25, 5, 25, 25]],
            }
            for i, category in enumerate((1, 7), 1)
        ],
        "categories": [
            {"id": i, "name": name, "frequency": "c"} for i, name in enumerate(names, 1)
        ],
    }
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    cleanup.append("lvis_v1_tiny")
    register_lvis_instances(
        "lvis_v1_tiny", get_lvis_instances_meta("lvis_v1"), str(path), str(tmp_path / "coco") + "/"
    )
    return path


def test_records_and_prompts(lvis_json, tokenizer):
    records = load_records("lvis_v1_tiny")
    assert records[0]["file_name"].endswith("coco/val2017/000000000139.jpg")
    assert [a["category_id"] for a in records[0]["annotations"]] == [0, 6]
    names = MetadataCatalog.get("lvis_v1_tiny").thing_classes
    assert absent_class_ids(records[0], "lvis_v1_tiny") == [2, 1202]
    convert = GroundingDatasetMapper(
        is_train=True,
        augmentations=[T.ResizeShortestEdge(48, 100)],
        tokenizer=tokenizer,
        full_prompt_prob=1.0,
    )
    # Only what is verified to be absent is a negative, although 85 names would fit.
    assert set(convert(records[0])["prompt"].class_ids) == {0, 6, 2, 1202}
    assert set(convert(records[1])["prompt"].class_ids) == {2, 1202}
    test = GroundingDatasetMapper(
        is_train=False, augmentations=[], tokenizer=tokenizer, chunk_size=40
    )
    prompts = test(records[0])["prompt"]
    assert len(prompts) == 31 and sum(len(p) for p in prompts) == 1203
    assert prompts[0].class_ids == tuple(range(40)) and "_" not in prompts[0].caption
    assert len(names) == 1203


def test_a_bad_polygon_costs_no_box(lvis_json, caplog):
    content = json.loads(lvis_json.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    lvis_json.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"lvis\.json.*invalid polygon"):
        load_records("lvis_v1_tiny", invalid="raise")
    records = load_records("lvis_v1_tiny")
    assert "1 x bad mask" in caplog.text
    assert [a["category_id"] for a in records[0]["annotations"]] == [0, 6]
    assert "segmentation" not in records[0]["annotations"][0]
    assert records[0]["file_name"].endswith("coco/val2017/000000000139.jpg")
    assert records[0]["neg_category_ids"] == [3, 1203]
