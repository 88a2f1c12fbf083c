"""Few-shot subsets: GLIP's rule, and files that read as the data set they come from."""

import base64
import random
from collections import Counter
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import BoxMode

from glipv2_d2.data import load_records, register_coco_dataset
from glipv2_d2.data.containers import ImageSource
from glipv2_d2.data.few_shot import few_shot_records, few_shot_split, write_detection_json
from glipv2_d2.data.images import record_image_size
from glipv2_d2.errors import DataError, UsageError


def image(key, *classes):
    return {"image_id": key, "annotations": [{"category_id": index} for index in classes]}


def many_images():
    draw = random.Random(0)
    return [image(i, *draw.choices(range(5), (8, 4, 2, 1, 1), k=i % 4)) for i in range(80)]


def ids(records):
    return [record["image_id"] for record in records]


@pytest.mark.parametrize("shots", [1, 3, 10])
@pytest.mark.parametrize("seed", [3, 30, 300])
def test_each_class_has_its_shots_and_no_image_is_there_in_vain(shots, seed):
    images = many_images()
    taken = few_shot_records(images, shots, seed)
    had, has = (Counter(c for r in of for c in {a["category_id"] for a in r["annotations"]})
                for of in (images, taken))  # fmt: skip
    assert all(has[index] >= min(shots, had[index]) for index in range(5))
    before = Counter()
    for record in taken:
        classes = {a["category_id"] for a in record["annotations"]}
        assert any(before[index] < shots for index in classes)
        before.update(classes)
    assert len(set(ids(taken))) == len(taken)


def test_the_images_with_boxes_are_shuffled_in_the_order_of_their_ids():
    images = [image(i, 0) for i in (4, 2, 9, 7, 5)] + [image(1), image(3)]
    order = [2, 4, 5, 7, 9]
    random.Random(30).shuffle(order)
    assert ids(few_shot_records(images, 2, 30)) == order[:2]
    assert ids(few_shot_records(images[::-1], 2, 30)) == order[:2]
    assert ids(few_shot_records(images, 9, 30)) == order  # there are no more
    assert ids(few_shot_records(images, 2, 3)) != order[:2]


def test_a_shot_is_an_image_and_comes_with_all_of_its_boxes():
    crowded, other = image(1, 0, 0, 0, 1), image(2, 1)
    taken = few_shot_records([crowded, other], 1, 300)
    # Both are taken where the second comes first, and the first alone brings both classes.
    assert crowded in taken and len(taken) in (1, 2)
    assert few_shot_records([crowded], 3, 3) == [crowded]


def test_what_gives_no_subset():
    with pytest.raises(UsageError, match="at least 1 image of each class, not 0"):
        few_shot_records(many_images(), 0, 3)
    with pytest.raises(DataError, match="no image has a box"):
        few_shot_records([image(1)], 1, 3)
    with pytest.raises(DataError, match="image 7 has a box without 'category_id'.*by class"):
        few_shot_records([{"image_id": 7, "annotations": [{"bbox": [0, 0, 1, 1]}]}], 1, 3)


def test_a_file_reads_as_the_records_that_were_written(coco_json, images, tmp_path):
    register_coco_dataset("pets", str(coco_json), str(images))
    records = load_records("pets")
    subset = few_shot_records(records, 2, 3)
    path = tmp_path / "few" / f"{few_shot_split('train', 2, 3)}.json"
    assert path.name == "fewshot_train_shot2_seed3.json"
    write_detection_json(path, "pets", subset)
    first = path.read_bytes()
    write_detection_json(path, "pets", subset)
    assert path.read_bytes() == first

    register_coco_dataset("pets_few", str(path), str(images))
    by_id = {record["image_id"]: record for record in records}
    for read in load_records("pets_few"):
        expected = by_id[read["image_id"]]
        assert read["file_name"] == expected["file_name"]
        for mine, theirs in zip(read["annotations"], expected["annotations"], strict=True):
            for key in ("bbox", "category_id", "segmentation"):
                assert mine[key] == theirs[key]
    few, whole = (MetadataCatalog.get(name) for name in ("pets_few", "pets"))
    assert few.thing_classes == whole.thing_classes
    assert few.thing_dataset_id_to_contiguous_id == whole.thing_dataset_id_to_contiguous_id
    # Detectron2's own reader, too.
    register_coco_instances("pets_stock", {}, str(path), str(images))
    assert len(DatasetCatalog.get("pets_stock")) == len(subset)


def test_records_of_a_users_own_function(tmp_path):
    box = {"bbox": [1, 2, 5, 8], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    mask = {"size": [9, 9], "counts": b"R4"}
    record = {"file_name": "/pictures/a.png", "height": 9, "width": 9, "image_id": "a"}
    record["annotations"] = [{**box, "segmentation": mask, "iscrowd": 1}]
    DatasetCatalog.register("own", lambda: [record])
    with pytest.raises(DataError, match="'own' has no thing_classes"):
        write_detection_json(tmp_path / "own.json", "own", [record])
    MetadataCatalog.get("own").set(thing_classes=["cat", "dog"])
    write_detection_json(tmp_path / "own.json", "own", [record])
    register_coco_dataset("own_few", str(tmp_path / "own.json"), "")
    (read,) = DatasetCatalog.get("own_few")
    assert read["file_name"] == "/pictures/a.png" and read["image_id"] == "a"
    (annotation,) = read["annotations"]
    assert annotation["bbox"] == [1, 2, 4, 6] and annotation["category_id"] == 1
    assert annotation["iscrowd"] == 1 and annotation["segmentation"]["counts"] == "R4"


def test_images_that_are_no_files_become_files(images, tmp_path):
    pixels = next(images.iterdir()).read_bytes()
    holder = tmp_path / "labels.json"
    holder.write_bytes(base64.b64encode(pixels))
    source = ImageSource("base64", str(holder), 0, holder.stat().st_size, "")
    height, width = record_image_size({"file_name": "lost.png", "image_source": source})
    record = {"file_name": "lost.png", "image_source": source, "height": height, "width": width}
    box = {"bbox": [1, 2, 5, 8], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    DatasetCatalog.register("inside", list)
    MetadataCatalog.get("inside").set(thing_classes=["cat"])
    few = [{**record, "image_id": name, "annotations": [box]} for name in ("a/1", "a_1")]
    write_detection_json(tmp_path / "few.json", "inside", few)
    register_coco_dataset("inside_few", str(tmp_path / "few.json"), "")
    files = [read["file_name"] for read in DatasetCatalog.get("inside_few")]
    assert len(set(files)) == 2 and all(Path(name).read_bytes() == pixels for name in files)
