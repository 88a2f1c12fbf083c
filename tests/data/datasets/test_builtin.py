import os

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from glipv2_d2.data import load_records
from glipv2_d2.data.datasets.builtin import GROUNDING_SPLITS, register_all
from glipv2_d2.errors import DataError
from tests.support import benchmark_tree as tree


def test_builtin_splits(monkeypatch, tmp_path):
    for name in GROUNDING_SPLITS:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    register_all()
    register_all()  # a second time changes nothing
    metadata = MetadataCatalog.get("goldg_mixed_train")
    assert metadata.json_file.startswith(str(tmp_path))
    assert set(metadata.image_root) == {"coco", "vg"}
    with pytest.raises(DataError, match=r"final_mixed_train\.json"):
        load_records("goldg_mixed_train")


def test_registered_names():
    for name, kind in (
        ("refcoco_testA", "refexp"),
        ("refcoco+_testB", "refexp"),
        ("refcocog_test", "refexp"),
        ("phrasecut_test", "phrasecut"),
    ):
        metadata = MetadataCatalog.get(name)
        assert metadata.evaluator_type == kind
        assert metadata.json_file.endswith(f"mdetr_annotations/finetune_{name}.json")
    assert "refcocog_testA" not in DatasetCatalog.list()


def test_questions(tmp_path):
    """The files and folders of VQAv2, GQA and SNLI-VE, as their authors name them."""
    tree.questions(tmp_path)
    with tree.catalogs_at(tmp_path):
        records = {name: DatasetCatalog.get(name) for name in tree.QUESTION_SETS}
        images = [record["file_name"] for found in records.values() for record in found]
        assert all(os.path.isfile(image) for image in images)
        for name, found in records.items():
            assert MetadataCatalog.get(name).evaluator_type == "vqa"
            assert len(found) == (0 if name == "vqav2_val_without_dev" else 2), name
            unanswered = name in ("vqav2_test-dev", "gqa_submission")
            assert all(("answers" in record) != unanswered for record in found), name
        assert len(load_records("vqav2_dev", drop_records=False)) == 2
        assert "vqav2_test" in DatasetCatalog.list()
        with pytest.raises(DataError, match=r"v2_OpenEnded_mscoco_test2015_questions\.json"):
            load_records("vqav2_test")


def test_captions_are_learnt_in_training_and_written_in_tests():
    for name, kind, options in (
        ("coco_2017_captions_val", "caption", {"to_write": True}),
        ("coco_karpathy_train", "grounding", {"splits": ["train", "restval"]}),
        ("flickr30k_karpathy_test", "caption", {"to_write": True, "splits": ["test"]}),
        ("flickr30k_caption_test", "flickr30k", {"task": "caption"}),
        ("flickr30k_grounded_caption_test", "grounded_caption", {}),
    ):
        metadata = MetadataCatalog.get(name)
        assert (metadata.evaluator_type, metadata.reader_options) == (kind, options)
