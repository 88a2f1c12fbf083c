import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from glipv2_d2.data import GroundingDatasetMapper, build_grounding_train_loader
from glipv2_d2.data.datasets.builtin import REFCOCO_SPLITS
from glipv2_d2.data.datasets.refexp import (
    image_key,
    images_of,
    register_coco_without_refexp,
    without_images,
)
from glipv2_d2.data.loading import load_records
from glipv2_d2.errors import DataError


def test_one_image_has_many_names():
    assert image_key("coco/train2014/COCO_train2014_000000000009.jpg") == "coco:9"
    assert image_key("train2017/000000000009.jpg") == "coco:9"
    assert image_key("gqa/images/9.jpg") == "9.jpg"  # Visual Genome's
    assert image_key("000000009.jpg") == "000000009.jpg"


@pytest.fixture
def refcoco_root(tmp_path):
    """COCO train2017 with images 1..6; each refexp split holds one of them, in 2014's names."""
    (tmp_path / "mdetr_annotations").mkdir()
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    splits = [(d, s) for d, of in REFCOCO_SPLITS.items() for s in of]
    for number, (data, split) in enumerate(splits, 1):
        name = f"COCO_train2014_{number:012d}.jpg"
        image = {"id": 7, "file_name": name, "original_id": number, "caption": "x"}
        (tmp_path / "mdetr_annotations" / f"finetune_{data}_{split}.json").write_text(
            json.dumps({"images": [{**image, "height": 5, "width": 5}], "annotations": []})
        )
    images = [
        {"id": i, "file_name": f"{i:012d}.jpg", "height": 5, "width": 5} for i in range(1, 15)
    ]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "coco/annotations/instances_train2017.json").write_text(json.dumps(content))
    return tmp_path


def test_the_overlap(refcoco_root):
    held_out = images_of([str(refcoco_root / "mdetr_annotations/finetune_refcoco_val.json")])
    assert held_out == {"coco:2"}
    records = [{"file_name": "000000000001.jpg"}, {"file_name": "000000000002.jpg"}]
    assert without_images(records, held_out) == records[:1]
    with pytest.raises(DataError, match="no annotation file"):
        images_of(["nowhere.json"])


def test_coco_without_refexp(refcoco_root):
    name = "coco_2017_train_without_refexp"
    kept = DatasetCatalog.pop(name), MetadataCatalog.pop(name)
    register_coco_without_refexp(str(refcoco_root), REFCOCO_SPLITS)
    try:
        metadata = MetadataCatalog.get(name)
        assert len(metadata.thing_classes) == 80
        # The 80 categories of the metadata do not fit the one of this file.
        with pytest.raises(DataError, match="do not fit thing_classes"):
            DatasetCatalog.get(name)
        content = json.loads(
            (refcoco_root / "coco/annotations/instances_train2017.json").read_text()
        )
        ids = metadata.thing_dataset_id_to_contiguous_id
        content["categories"] = [
            {"id": i, "name": metadata.thing_classes[k]} for i, k in ids.items()
        ]
        (refcoco_root / "coco/annotations/instances_train2017.json").write_text(json.dumps(content))
        # Splits 1, 5 and 9 are the training ones, 12 to 14 are in none.
        assert [r["image_id"] for r in load_records(name)] == [1, 5, 9, 12, 13, 14]
    finally:
        DatasetCatalog[name], MetadataCatalog[name] = kept


def test_the_loader_leaves_out_images_of_other_data_sets(datasets, tokenizer):
    mapper = GroundingDatasetMapper(is_train=True, augmentations=[], tokenizer=tokenizer)

    def build(names, excluded):
        return build_grounding_train_loader(
            names, mapper=mapper, total_batch_size=1, seed=0, exclude_images_of=excluded
        )

    with pytest.raises(DataError, match="no image is left"):  # both show the same twelve images
        build(datasets[0], [datasets[1]])
    with pytest.raises(ValueError, match="is a list of names"):
        build(datasets[0], datasets[1])
