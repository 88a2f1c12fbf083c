"""Data sets that are read by offset, in the training loader: each record once an epoch, whatever
the number of workers and processes, resumable anywhere, and damage replaced and counted."""

import gc
import json
import logging
import pickle
from itertools import islice
from multiprocessing.reduction import ForkingPickler

import pytest
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from glipv2_d2.cli.inspection import draw_record
from glipv2_d2.data import (
    GroundingDatasetMapper,
    build_grounding_test_loader,
    build_grounding_train_loader,
    register_grounding_dataset,
)
from glipv2_d2.data.loading import load_records, read_dataset
from glipv2_d2.data.reader import Reader
from glipv2_d2.data.report import LEFT_OUT, REPLACED
from glipv2_d2.data.survey import survey
from glipv2_d2.errors import DataError
from tests.support.pretraining_files import (
    BOXES,
    CAPTION,
    SPANS,
    caption_label,
    image_row,
    write_tsv,
)
from tests.support.record_mapping import make_mapper


@pytest.fixture
def large(caption_tsv, shards, mdetr_json, images):
    """A TSV with 3 usable rows of 4, shards with 5 samples, and 12 captions in a json."""
    register_grounding_dataset("large_tsv", str(caption_tsv), "", format="glip_tsv")
    register_grounding_dataset("large_tar", str(shards / "*.tar"), "", format="webdataset")
    register_grounding_dataset("large_json", str(mdetr_json), str(images))
    return ["large_tsv", "large_tar", ["large_json", 0.5]]


def keys(batch):
    return [str(sample["image_id"]) for sample in batch]


def batches(large, tokenizer, count, **options):
    options = {"total_batch_size": 5, "seed": 1, **options}
    loader = build_grounding_train_loader(large, mapper=make_mapper(tokenizer), **options)
    return [keys(batch) for batch in islice(loader, count)]


def test_an_epoch_has_each_record(large, tokenizer):
    epoch = [key for batch in batches(large, tokenizer, 3) for key in batch]
    assert len(epoch) == 15  # 4 + 5 + 6
    # img2 has no box above the score; the next row stands in for it.
    tsv = sorted(key for key in epoch if key.startswith("img"))
    assert tsv == ["img0", "img1", "img3", "img3"]
    assert len({key for key in epoch if ".tar" in key}) == 5
    assert len({key for key in epoch if key.isdigit()}) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_processes_and_resuming(large, tokenizer, monkeypatch, workers):
    options = {"total_batch_size": 4, "num_workers": workers}
    alone = batches(large, tokenizer, 10, **options)
    assert batches(large, tokenizer, 7, start_iteration=3, **options) == alone[3:]
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        monkeypatch.setattr("detectron2.data.build.get_world_size", lambda: 2)
        shares.append(batches(large, tokenizer, 10, **options))
    for whole, first, second in zip(alone, *shares):
        assert len(first) == len(second) == 2
        assert sorted(first + second) == sorted(whole)


def test_damage_is_replaced_and_counted(large, caption_tsv, shards, tokenizer, caplog):
    rows = [image_row(f"img{i}", i) for i in range(4)]
    rows[1][1] = b"no base64!"
    write_tsv(caption_tsv.with_name("images.tsv"), rows)
    labels = caption_tsv.with_name("labels.tsv").read_bytes()
    bad_box = caption_label(CAPTION, [*BOXES, [9, 9, 1, 1]], [*SPANS, SPANS[0]], [0.9] * 3)
    row = b"img0\t" + json.dumps(bad_box).encode()
    write_tsv(
        caption_tsv.with_name("labels.tsv"),
        [line.split(b"\t") for line in [row, *labels.rstrip().split(b"\n")[1:]]],
    )
    loader = build_grounding_train_loader(
        "large_tsv", mapper=make_mapper(tokenizer), total_batch_size=4, seed=0
    )
    with caplog.at_level(logging.WARNING):
        batch = next(iter(loader))
    assert sorted(keys(batch)) == ["img0", "img3", "img3", "img3"]
    assert [len(s["instances"]) for s in batch if s["image_id"] == "img0"] == [2]
    counts = loader.dataset.report.totals()
    assert counts == {REPLACED: 3, LEFT_OUT: 1}  # img1 and, twice, img2
    assert "row 'img1' at byte" in caplog.text and "no base64" in caplog.text
    with pytest.raises(DataError, match="annotation 2: bbox .9, 9, 1, 1. is reversed"):
        build_grounding_train_loader(
            "large_tsv", mapper=make_mapper(tokenizer), total_batch_size=4, invalid="raise"
        )


def test_what_was_asked_to_be_left_out_is_no_fault(large, caption_tsv, tokenizer):
    def epoch():
        loader = build_grounding_train_loader(
            "large_tsv", mapper=make_mapper(tokenizer), total_batch_size=4, seed=0, invalid="raise"
        )
        return keys(next(iter(loader)))

    assert sorted(epoch()) == ["img0", "img1", "img3", "img3"]
    write_tsv(caption_tsv.with_name("images.tsv"), [[f"img{i}", b"damaged!"] for i in range(4)])
    with pytest.raises(DataError, match="no base64"):
        epoch()


def test_a_missing_image_is_replaced(large, images, tokenizer):
    (images / "3.png").unlink()
    loader = build_grounding_train_loader(
        "large_json", mapper=make_mapper(tokenizer), total_batch_size=12, seed=0
    )
    epoch = keys(next(iter(loader)))
    assert sorted(epoch) == sorted(str(104 if i == 103 else i) for i in range(100, 112))
    assert loader.dataset.report.totals()[REPLACED] == 1
    strict = build_grounding_train_loader(
        "large_json", mapper=make_mapper(tokenizer), total_batch_size=12, seed=0, invalid="raise"
    )
    with pytest.raises(FileNotFoundError, match=r"3\.png"):
        next(iter(strict))
    loader = build_grounding_train_loader(
        "large_json", mapper=make_mapper(tokenizer), total_batch_size=12, seed=0
    )
    for image in images.iterdir():
        image.unlink()
    with pytest.raises(DataError, match=r"64 records in a row cannot be used.*\.png"):
        next(iter(loader))


def test_many_missing_images_stop_before_the_training(large, images, tokenizer, caplog):
    def build():
        return build_grounding_train_loader(
            "large_json", mapper=make_mapper(tokenizer), total_batch_size=12, seed=0
        )

    for i in (0, 1):
        (images / f"{i}.png").unlink()
    build()
    assert "2 of 12 image files that were looked at do not exist, the first: " in caplog.text
    (images / "2.png").unlink()
    with pytest.raises(DataError, match=r"'large_json': 3 of 12 image files.*0\.png.*20% stop"):
        build()


def test_negative_captions_of_lazy_data(large, tokenizer):
    loader = build_grounding_train_loader(
        "large_tsv", mapper=make_mapper(tokenizer, negative_captions=3), total_batch_size=4, seed=0
    )
    captions = [s["prompt"].caption for batch in islice(loader, 4) for s in batch]
    assert any("Café" in text and CAPTION in text for text in captions)


def test_images_of_other_data_sets_are_left_out(large, caption_tsv, images, tokenizer):
    """They are known by the key of a row or sample, which has no extension, or by the file."""
    name = "COCO_train2014_000000000007.jpg"
    write_tsv(
        caption_tsv.with_name("images.tsv"),
        [image_row("000000000007" if i == 1 else f"img{i}", i) for i in range(4)],
    )
    labels = caption_tsv.with_name("labels.tsv")
    labels.write_bytes(labels.read_bytes().replace(b"img1\t", b"000000000007\t"))
    labels.with_suffix(".lineidx").unlink()
    content = {
        "images": [{"id": 1, "file_name": name, "height": 60, "width": 80, "caption": CAPTION},
                   {"id": 2, "file_name": "000000001.jpg", "height": 60, "width": 80,
                    "caption": CAPTION}],
        "annotations": [],
    }  # fmt: skip
    held_out = images / "held_out.json"
    held_out.write_text(json.dumps(content))
    register_grounding_dataset("held_out", str(held_out), str(images))

    def epoch(name, **options):
        options = {"total_batch_size": 4, "seed": 0, "invalid": "raise", **options}
        loader = build_grounding_train_loader(name, mapper=make_mapper(tokenizer), **options)
        return sorted(keys(next(iter(loader))))

    assert epoch("large_tsv") == ["000000000007", "img0", "img3", "img3"]
    # img2 has no box above the score, so that img3 stands in for two.
    assert epoch("large_tsv", exclude_images_of=["held_out"]) == ["img0", "img3", "img3", "img3"]
    whole = epoch("large_tar", exclude_images_of=["held_out"], total_batch_size=5)
    assert len(set(whole)) == 5  # 000000001 of the shards is no COCO image


def test_nothing_usable_stops_before_the_training(caption_tsv, tokenizer):
    register_grounding_dataset(
        "large_none", str(caption_tsv), "", "glip_tsv", reader_options={"min_score": 1.0}
    )
    with pytest.raises(DataError, match="none of 4 records that were looked at.*too few boxes"):
        build_grounding_train_loader(
            "large_none", mapper=make_mapper(tokenizer), total_batch_size=4, seed=0
        )


def test_the_test_loader_reads_them_too(large, tokenizer):
    test = GroundingDatasetMapper(is_train=False, augmentations=[], tokenizer=tokenizer)
    loader = build_grounding_test_loader("large_tar", mapper=test, batch_size=2)
    samples = [s for batch in loader for s in batch]
    assert len(samples) == 5
    assert all(s["prompt"][0].names == ("caterpillar", "green leaf") for s in samples)


def test_inspecting_them(large):
    found = survey("large_tsv", check_images=True)
    assert (found.total, len(found.usable), found.captions) == (4, 3, 3)
    assert found.problems.kinds["too few boxes"][0] == 1
    found = survey("large_tar", max_records=2)
    assert (found.total, len(found.usable)) == (5, 2)
    assert draw_record(found.usable[1], size=160).width == 360


def test_the_loader_can_be_sent_to_spawned_workers(large, tokenizer):
    loader = build_grounding_train_loader(
        large, mapper=make_mapper(tokenizer, negative_captions=1), total_batch_size=5, seed=1
    )
    copied = pickle.loads(ForkingPickler.dumps(loader.dataset))
    expected = [str(s["image_id"]) for s in islice(loader.dataset, 10)]
    assert [str(s["image_id"]) for s in islice(copied, 10)] == expected


def test_a_data_set_is_read_without_the_garbage_collector(monkeypatch):
    collecting = []

    def load(path, image_root, dataset_name, *, report):
        collecting.append(gc.isenabled())
        raise DataError("unreadable")

    reader = Reader(load, "a.json", "images", "uncollected")
    monkeypatch.setitem(DatasetCatalog.data, "uncollected", reader)
    for read in (reader, lambda: read_dataset("uncollected"), lambda: load_records("uncollected")):
        with pytest.raises(DataError, match="unreadable"):
            read()
        assert gc.isenabled()
    assert collecting == [False] * 3
