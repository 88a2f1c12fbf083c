import json
import re
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.utils import comm
from PIL import Image

from glipv2_d2.data import (
    build_grounding_test_loader,
    build_grounding_train_loader,
    load_records,
    register_grounding_dataset,
)
from glipv2_d2.data.build import relabel
from glipv2_d2.errors import ConfigError, DataError
from tests.support.record_mapping import make_mapper


def keys(batch):
    return [(sample["dataset_name"], sample["image_id"]) for sample in batch]


def test_mix_with_weights(datasets, tokenizer):
    loader = build_grounding_train_loader(
        [datasets[0], (datasets[1], 2)],
        mapper=make_mapper(tokenizer),
        total_batch_size=4,
        seed=0,
    )
    epoch = [key for batch in islice(loader, 9) for key in keys(batch)]
    assert len(epoch) == 36  # 12 + 2 * 12
    assert sorted(epoch) == sorted(
        [(datasets[0], i) for i in range(12)] + [(datasets[1], 100 + i) for i in range(12)] * 2
    )  # the image without boxes too


def test_two_processes_see_what_one_sees(datasets, tokenizer, monkeypatch):
    def batches(rank, world, workers):
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world)
        # Detectron2 imports the function by name here
        monkeypatch.setattr("detectron2.data.build.get_world_size", lambda: world)
        loader = build_grounding_train_loader(
            list(datasets),
            mapper=make_mapper(tokenizer, shuffle=False, full_prompt_prob=1.0),
            total_batch_size=4,
            num_workers=workers,
            seed=1,
        )
        return [[(k, s["prompt"]) for k, s in zip(keys(b), b)] for b in islice(loader, 8)]

    alone = batches(0, 1, 0)
    for workers in (0, 2):
        first, second = batches(0, 2, workers), batches(1, 2, workers)
        for one, a, b in zip(alone, first, second):
            assert len(a) == len(b) == 2
            assert sorted(one, key=str) == sorted(a + b, key=str)


def test_negative_captions_come_from_the_data_set(datasets, tokenizer):
    mapper = make_mapper(tokenizer, negative_captions=2)
    loader = build_grounding_train_loader(
        list(datasets), mapper=mapper, total_batch_size=12, num_workers=0, seed=0
    )
    samples = [s for batch in islice(loader, 2) for s in batch]
    grounding = [s for s in samples if s["prompt"].kind == "grounding"]
    assert len(grounding) == 12
    assert sum(s["prompt"].caption.count("star") > 1 for s in grounding) > 6
    for sample in grounding:
        # phrases are those of the image's own caption, wherever it stands
        number = sample["image_id"] - 100
        start = sample["prompt"].spans[0][0][0]
        assert sample["prompt"].caption[start:].startswith(f"star {number} left of the blue ring")
        assert sample["prompt"].names == ("star", "blue ring")


def test_boxes_that_train_no_regression(datasets, tokenizer):
    mapper = make_mapper(tokenizer, no_regression=[datasets[1]])
    loader = build_grounding_train_loader(
        list(datasets), mapper=mapper, total_batch_size=12, num_workers=0, seed=0
    )
    samples = [s for batch in islice(loader, 2) for s in batch]
    told = {s["dataset_name"]: s.get("regression", True) for s in samples}
    assert told == {datasets[0]: True, datasets[1]: False}
    with pytest.raises(ConfigError, match=r"no_regression names \['there'\].*there is: "):
        build_grounding_train_loader(
            list(datasets),
            mapper=make_mapper(tokenizer, no_regression=["there"]),
            total_batch_size=1,
        )
    with pytest.raises(ValueError, match="is a list of names, got 'there'"):
        make_mapper(tokenizer, no_regression="there")


def test_aspect_ratio_grouping(datasets, tokenizer):
    loader = build_grounding_train_loader(
        datasets[0], mapper=make_mapper(tokenizer), total_batch_size=3, aspect_ratio_grouping=True
    )
    assert len(next(iter(loader))) == 3


def test_test_loader_sees_every_image_once(datasets, tokenizer):
    loader = build_grounding_test_loader(
        datasets[0], mapper=make_mapper(tokenizer, is_train=False, chunk_size=2), batch_size=5
    )
    batches = list(loader)
    assert [len(b) for b in batches] == [5, 5, 2]
    samples = [s for b in batches for s in b]
    assert [s["image_id"] for s in samples] == list(range(12))
    for sample in samples:
        assert [p.names for p in sample["prompt"]] == [("cat", "caterpillar"), ("cat food",)]
        assert [p.class_ids for p in sample["prompt"]] == [(0, 1), (2,)]
        assert "annotations" not in sample and "instances" not in sample


def test_a_batch_of_the_test_loader_holds_images_of_like_shapes(coco_json, datasets, tokenizer):
    """The model shows those of one padded size together, so that batches should hold them."""
    content = json.loads(coco_json.read_text())
    for i, record in enumerate(content["images"]):
        height, width = ((60, 80), (30, 160), (80, 60))[i % 3]
        record.update(height=height, width=width)
        pixels = np.zeros((height, width, 3), np.uint8)
        Image.fromarray(pixels).save(coco_json.parent / "images" / record["file_name"])
    for annotation in content["annotations"]:
        annotation["bbox"] = [2, 2, 20, 20]  # fits them all
    coco_json.write_text(json.dumps(content))
    mapper = make_mapper(tokenizer, is_train=False)
    alone = build_grounding_test_loader(datasets[0], mapper=mapper)
    assert [b[0]["image_id"] for b in alone] == list(range(12))
    batches = list(build_grounding_test_loader(datasets[0], mapper=mapper, batch_size=4))
    assert sorted(x["image_id"] for batch in batches for x in batch) == list(range(12))
    for batch in batches:
        assert len({x["image"].shape for x in batch}) == 1


def test_bad_arguments(datasets, tokenizer, monkeypatch):
    def build(names, batch=4, **options):
        return build_grounding_train_loader(
            names, mapper=make_mapper(tokenizer), total_batch_size=batch, **options
        )

    with pytest.raises(ValueError, match="list of training data sets is empty"):
        build([])
    with pytest.raises(ValueError, match="named twice"):
        build([datasets[0], (datasets[0], 2)])
    with pytest.raises(ValueError, match="name or"):
        build([(datasets[0], 1, 2)])
    with pytest.raises(ValueError, match="must be positive"):
        build([(datasets[0], 0)])
    with pytest.raises(DataError, match="no data set named 'missing'"):
        build(["missing"])
    with pytest.raises(ValueError, match="positive multiple"):
        build(datasets[0], batch=0)
    with pytest.raises(ValueError, match=r"repeat_threshold is .* in \(0, 1\], got 2"):
        build(datasets[0], repeat_threshold=2)
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="number of processes, 3"):
        build(datasets[0])


def test_a_negative_seed_asks_for_another_order_each_run(datasets, tokenizer):
    def order(seed):
        loader = build_grounding_train_loader(
            datasets[0], mapper=make_mapper(tokenizer), total_batch_size=4, seed=seed
        )
        return [key for batch in islice(loader, 6) for key in keys(batch)]

    assert order(3) == order(3)
    assert order(-1) != order(-1)  # equal once in 12! * 12! times


def test_relabel_matches_classes_by_name(monkeypatch):
    known = {"pets": Metadata(name="pets", thing_classes=["cat", "dog"])}
    monkeypatch.setattr(MetadataCatalog, "get", known.get)
    records = [{"file_name": "a.jpg", "annotations": [{"category_id": 0}, {"category_id": 1}]}]
    moved = relabel(records, "pets", ["dog", "cow", "cat"])
    assert [a["category_id"] for a in moved[0]["annotations"]] == [2, 0]
    assert [a["category_id"] for a in records[0]["annotations"]] == [0, 1]
    with pytest.raises(DataError, match="a.jpg: the class 'dog'"):
        relabel(records, "pets", ["cat"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["images"][0].pop("width"), "'width' is missing. Repair the file"),
        (lambda c: c["images"][1].update(id=c["images"][0]["id"]), "'id' is that of 2 images"),
        (lambda c: c["images"].append("x"), "'x' is no json object"),
    ],
)
@pytest.mark.parametrize("kind", [0, 1])
def test_a_test_over_fewer_images_is_refused(
    datasets, coco_json, mdetr_json, tokenizer, kind, edit, message
):
    """What a reader leaves out in training; loader and evaluator read the same file, so that
    nobody would notice."""
    path = (coco_json, mdetr_json)[kind]
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    assert len(load_records(datasets[kind])) in (10, 11, 12)
    with pytest.raises(DataError, match=message):
        build_grounding_test_loader(datasets[kind], mapper=make_mapper(tokenizer, is_train=False))


def both_loaders(name, tokenizer):
    yield lambda: build_grounding_train_loader(
        name, mapper=make_mapper(tokenizer), total_batch_size=2
    )
    yield lambda: build_grounding_test_loader(name, mapper=make_mapper(tokenizer, is_train=False))


@pytest.mark.parametrize(
    ("class_name", "problem"),
    [
        ("screw [M4]", "square brackets"),
        ("(M4)", "is empty"),
        ("very " * 300, "30[02] tokens.*shorten the"),
    ],
)
def test_classes_that_cannot_be_asked_for(class_name, problem, coco_json, datasets, tokenizer):
    content = json.loads(coco_json.read_text())
    content["categories"][1]["name"] = class_name
    coco_json.write_text(json.dumps(content))
    for build in both_loaders(datasets[0], tokenizer):
        message = f"'{re.escape(class_name[:59])}.*{problem}.*class is one of data set '"
        with pytest.raises(DataError, match=message):
            build()


def test_boxes_without_class_names_are_refused_before_they_are_read(datasets, tokenizer):
    records = DatasetCatalog.get(datasets[0])
    DatasetCatalog.register("tiny_nameless", lambda: records)
    for build in both_loaders("tiny_nameless", tokenizer):
        with pytest.raises(DataError, match="'tiny_nameless' has no class names"):
            build()


@pytest.fixture
def task_sets(images):
    """Questions and captions over the images, without a single box, registered."""

    def records(**fields):
        base = {"height": 60, "width": 80}
        return [
            {**base, "file_name": str(images / f"{i}.png"), "image_id": 200 + i}
            | {key: value.format(i) if key == "caption" else value for key, value in fields.items()}
            for i in range(12)
        ]

    sets = {
        "tiny_questions": records(task="question", caption="how many? {}", answers={"2": 0.6}),
        "tiny_captions": records(task="caption", caption="a star {}"),
    }
    for name, made in sets.items():
        DatasetCatalog.register(name, lambda made=made: made)
    return list(sets)


def test_tasks_in_one_mix_with_detection(datasets, task_sets, tokenizer):
    """Every record is mapped once an epoch, by its task, the same with any number of workers."""

    def epoch(workers):
        loader = build_grounding_train_loader(
            [*datasets, *task_sets],
            mapper=make_mapper(tokenizer, negative_captions=2, shuffle=False, full_prompt_prob=1.0),
            total_batch_size=4,
            num_workers=workers,
            seed=0,
            tasks=["caption", "question"],
        )
        return [sample for batch in islice(loader, 12) for sample in batch]

    samples = epoch(0)
    assert len({(s["dataset_name"], s["image_id"]) for s in samples}) == 48
    kinds = {"tiny_detection": "detection", "tiny_grounding": "grounding"}
    kinds |= {"tiny_questions": "question", "tiny_captions": "caption"}
    for sample in samples:
        name = sample["dataset_name"]
        assert sample["prompt"].kind == kinds[name]
        assert ("instances" in sample) is (name in datasets)
        assert ("answers" in sample) is (name == "tiny_questions")
    seen = [(s["dataset_name"], s["image_id"], s["prompt"]) for s in samples]
    assert [(s["dataset_name"], s["image_id"], s["prompt"]) for s in epoch(2)] == seen


def test_data_without_a_box_teach_a_task(task_sets, tokenizer):
    for name in task_sets:
        loader = build_grounding_train_loader(
            name, mapper=make_mapper(tokenizer), total_batch_size=4
        )
        assert all("instances" not in sample for sample in next(iter(loader)))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["caption"], "'tiny_questions' has questions, and .* give it a model.vqa_head, or take"),
        (["question"], "'tiny_captions' has captions, and .* give it a model.caption_head, or"),
    ],
)
def test_tasks_that_the_model_has_no_head_for(datasets, task_sets, tokenizer, tasks, message):
    with pytest.raises(ConfigError, match=message):
        build_grounding_train_loader(
            [datasets[0], *task_sets],
            mapper=make_mapper(tokenizer),
            total_batch_size=4,
            tasks=tasks,
        )


def test_answers_that_the_model_cannot_give(datasets, task_sets, images, tokenizer, caplog):
    """All of them: another list is meant; some: VQAv2's list has the frequent ones."""
    options = {"mapper": make_mapper(tokenizer), "total_batch_size": 4}
    with pytest.raises(ConfigError, match=r"'tiny_questions': none of 12 .* \['2'\]: give that"):
        build_grounding_train_loader([datasets[0], *task_sets], answers=["two"], **options)
    rare = [
        {**record, "image_id": record["image_id"] + 50, "answers": {"a hundred": 1.0}}
        for record in DatasetCatalog.get("tiny_questions")[:3]
    ]
    DatasetCatalog.register("tiny_rare", lambda: DatasetCatalog.get("tiny_questions") + rare)
    caplog.set_level("INFO")
    build_grounding_train_loader("tiny_rare", answers=["2", "3"], **options)
    assert "tiny_rare: 3 of 15 questions that were looked at have no answer" in caplog.text


def test_questions_without_answers_are_a_test_set(images, tokenizer):
    record = {"file_name": str(images / "0.png"), "height": 60, "width": 80, "image_id": 0}
    asked = {**record, "task": "question", "caption": "why?"}
    DatasetCatalog.register("tiny_asked", lambda: [asked])
    DatasetCatalog.register("tiny_unwritten", lambda: [{**record, "task": "caption"}])
    for name in ("tiny_asked", "tiny_unwritten"):
        with pytest.raises(DataError, match=f"{name}' has no annotations.*Train on another split"):
            build_grounding_train_loader(name, mapper=make_mapper(tokenizer), total_batch_size=1)
        loader = build_grounding_test_loader(name, mapper=make_mapper(tokenizer, is_train=False))
        assert len(list(loader)) == 1


def test_images_of_questions_can_be_excluded(datasets, task_sets, tokenizer):
    with pytest.raises(DataError, match="'tiny_questions': no image is left to train on"):
        build_grounding_train_loader(
            "tiny_questions",
            mapper=make_mapper(tokenizer),
            total_batch_size=4,
            exclude_images_of=[datasets[0]],
        )


def test_images_of_rare_classes_are_seen_more_often_within_their_data_set(
    coco_json, datasets, tokenizer, caplog
):
    content = json.loads(coco_json.read_text())
    for i, annotation in enumerate(content["annotations"]):
        annotation["category_id"] = 2 if i == 10 else 1
    coco_json.write_text(json.dumps(content))
    with caplog.at_level("INFO", "glipv2_d2"):
        loader = build_grounding_train_loader(
            list(datasets), mapper=make_mapper(tokenizer), total_batch_size=24, seed=0,
            repeat_threshold=1 / 3,
        )  # fmt: skip
    seen = Counter(key for batch in islice(loader, 26) for key in keys(batch))
    # One of twelve images has the class, sqrt(1/3 / (1/12)) = 2: 2/13 of the data set's half.
    assert seen[datasets[0], 10] == pytest.approx(26 * 12 * 2 / 13, abs=5)
    assert sum(count for (name, _), count in seen.items() if name == datasets[0]) == 26 * 12
    assert all(seen[datasets[1], 100 + i] == 26 for i in range(12))
    assert "of 12 images 1 are seen more often than others, up to 2.0 times" in caplog.text


def test_classes_are_not_counted_of_what_is_read_while_it_is_trained_on(
    images, tmp_path, tokenizer
):
    line = {"filename": "1.png", "height": 60, "width": 80, "detection": {"instances": []}}
    line["detection"]["instances"] = [{"bbox": [1, 1, 9, 9], "label": 0, "category": "cat"}]
    path = tmp_path / "boxes.jsonl"
    path.write_text(json.dumps(line) + "\n")
    options = {"lazy": True, "label_map": {"0": "cat"}}
    register_grounding_dataset("boxes", str(path), str(images), "odvg", reader_options=options)
    with pytest.raises(ConfigError, match="'boxes' is read by offset while .*repeat_threshold=nul"):
        build_grounding_train_loader(
            "boxes", mapper=make_mapper(tokenizer), total_batch_size=1, repeat_threshold=0.1
        )
