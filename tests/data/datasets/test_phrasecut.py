"""PhraseCut's own file: whole masks for training."""

import json

import pytest

from glipv2_d2.data import GroundingDatasetMapper, build_grounding_train_loader
from glipv2_d2.data.datasets.phrasecut import read_refer_json, with_whole_masks
from glipv2_d2.errors import DataError
from tests.support import benchmark_tree as tree

LEFT = [[10, 10], [20, 10], [20, 20], [10, 20]]
RIGHT = [[30, 10], [40, 10], [40, 20], [30, 20]]
BOX = [10, 10, 30, 10]


def flat(*polygons):
    return [[value for point in polygon for value in point] for polygon in polygons]


def refer_file(path, *tasks):
    entries = [
        {"task_id": task_id, "instance_boxes": boxes, "Polygons": polygons}
        for task_id, boxes, polygons in tasks
    ]
    path.write_text(json.dumps(entries))
    return str(path)


def record(*boxes, task_id="1__1"):
    annotations = [{"bbox": box, "segmentation": flat(RIGHT), "id": 7} for box in boxes]
    return {"image_id": 1, "task_id": task_id, "annotations": annotations}


def test_an_instance_gets_all_its_polygons(tmp_path):
    other = [50, 50, 5, 5]
    path = refer_file(tmp_path / "r.json", ("1__1", [other, BOX], [[RIGHT], [LEFT, RIGHT]]))
    original = record([10.3, 10, 30, 10], other)  # as rounded by whoever wrote it
    (whole,) = with_whole_masks([original], "cuts", path)
    first, second = whole["annotations"]
    assert first == {"bbox": [10.3, 10, 30, 10], "segmentation": flat(LEFT, RIGHT), "id": 7}
    assert second["segmentation"] == flat(RIGHT)
    assert original["annotations"][0]["segmentation"] == flat(RIGHT)


def test_two_instances_with_one_box_get_their_own(tmp_path):
    path = refer_file(tmp_path / "r.json", ("1__1", [BOX, BOX], [[LEFT], [RIGHT]]))
    (whole,) = with_whole_masks([record(BOX, BOX)], "cuts", path)
    assert [a["segmentation"] for a in whole["annotations"]] == [flat(LEFT), flat(RIGHT)]


def test_of_two_that_are_near_the_nearer_one_counts(tmp_path):
    near = [10.4, 10, 30, 10]
    path = refer_file(tmp_path / "r.json", ("1__1", [BOX, near], [[LEFT], [RIGHT]]))
    (whole,) = with_whole_masks([record(near, BOX)], "cuts", path)
    assert [a["segmentation"] for a in whole["annotations"]] == [flat(RIGHT), flat(LEFT)]


@pytest.mark.parametrize("box", [None, [1, 2, 3], ["a", 2, 3, 4], [float("nan"), 2, 3, 4]])
def test_a_bad_box_is_left_to_the_checks(box, tmp_path):
    path = refer_file(tmp_path / "r.json", ("1__1", [BOX], [[LEFT]]))
    original = record(box, BOX)
    (whole,) = with_whole_masks([original], "cuts", path)
    assert whole["annotations"][0] is original["annotations"][0]
    assert whole["annotations"][1]["segmentation"] == flat(LEFT)


def test_files_that_do_not_belong_together(tmp_path):
    path = refer_file(tmp_path / "r.json", ("1__1", [BOX], [[LEFT]]))
    with pytest.raises(DataError, match=r"r.json \(cuts\): there is no task '2__1'"):
        with_whole_masks([record(BOX, task_id="2__1")], "cuts", path)
    with pytest.raises(DataError, match=r"task '1__1' has no instance with the box \[11, 10"):
        with_whole_masks([record([11, 10, 30, 10])], "cuts", path)
    uneven = refer_file(tmp_path / "u.json", ("1__1", [BOX, BOX], [[LEFT]]))
    with pytest.raises(DataError, match="u.json: not PhraseCut's"):
        read_refer_json(uneven)


def test_a_training_with_masks_takes_the_whole_ones(tmp_path, tokenizer):
    tree.phrasecut(tmp_path, ["train"])
    refer = tmp_path / "phrasecut/refer_train.json"
    tasks = json.loads(refer.read_text())
    for task in tasks:  # a second polygon, which MDETR's json does not have
        task["Polygons"][0].append([[0, 0], [4, 0], [4, 4], [0, 4]])
    refer.write_text(json.dumps(tasks))

    def load(use_masks):
        mapper = GroundingDatasetMapper(
            is_train=True, augmentations=[], tokenizer=tokenizer, use_masks=use_masks
        )
        return build_grounding_train_loader(
            ["phrasecut_train"], mapper=mapper, total_batch_size=2, seed=0
        )

    with tree.catalogs_at(tmp_path):
        samples = next(iter(load(use_masks=True)))
        assert [s["instances"].gt_masks.tensor[0, 1, 1].item() for s in samples] == [True, True]
        refer.unlink()
        load(use_masks=False)
        with pytest.raises(DataError, match="'phrasecut_train'.*refer_train.json' is not there"):
            load(use_masks=True)
