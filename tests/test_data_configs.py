"""The data configs name registered data sets and existing arguments; no data is on this disk."""

import inspect
from pathlib import Path

import pytest
from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog
from PIL import Image

import glipv2_d2  # noqa: F401  (registration)
from glipv2_d2.config import get_config
from glipv2_d2.data import (
    GroundingDatasetMapper,
    build_grounding_test_loader,
    build_grounding_train_loader,
)
from glipv2_d2.engine.evaluate import pair_test_sets
from glipv2_d2.errors import DataError

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "common" / "data"


def load(name):
    return LazyConfig.load(str(FOLDER / f"{name}.py"))


def arguments(function):
    return set(inspect.signature(function).parameters)


OURS = [path for path in sorted(FOLDER.glob("*.py")) if path.stem != "scenes_detectron2"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_names_and_arguments(path):
    config = load(path.stem)
    train = config.dataloader.train
    assert set(train) - {"_target_"} <= arguments(build_grounding_train_loader)
    assert set(train.mapper) - {"_target_"} <= arguments(GroundingDatasetMapper.__init__)
    names = [entry if isinstance(entry, str) else entry[0] for entry in train.datasets]
    names += list(train.get("exclude_images_of", ()))
    assert all(isinstance(e, str) or float(e[1]) > 0 for e in train.datasets)
    tests = [test for test, _ in pair_test_sets(config.dataloader).values()]
    for test in tests:
        assert set(test) - {"_target_"} <= arguments(build_grounding_test_loader)
        assert set(test.mapper) - {"_target_"} <= arguments(GroundingDatasetMapper.__init__)
        names.append(test.dataset)
    assert set(names) <= set(DatasetCatalog.list())
    assert len(names) > len(tests)


def test_mixes():
    def weights(name):
        return dict(tuple(entry) for entry in load(name).dataloader.train.datasets)

    assert set(weights("glipv2_t")) == {
        "objects365_train",
        "goldg_mixed_no_coco_train",
        "goldg_flickr_train",
        "cap4m_train",
    }
    large = weights("glip_l")
    # COCO stays unseen by GLIP-L; GLIPv2-B and -H train on it.
    assert not {"coco_2017_train", "visual_genome_train", "goldg_mixed_train"} & set(large)
    assert large["visual_genome_no_coco_train"] * 51_869 == pytest.approx(1.2e6, rel=0.03)
    assert large["goldg_flickr_train"] == 8 and large["goldg_mixed_no_coco_train"] == 4
    base = weights("glipv2_b")
    assert base["coco_2017_train"] == 8 and base["openimages_train"] == large["openimages_train"]
    assert not {"visual_genome_no_coco_train", "goldg_mixed_no_coco_train"} & set(base)
    assert base["visual_genome_train"] * 103_077 == pytest.approx(1.2e6, rel=0.05)
    for name in ("glip_l", "glipv2_b"):
        mapper = load(name).dataloader.train.mapper
        assert (dict(mapper.negative_captions), mapper.plain_caption_prob) == (
            {"cc15m_sbu_train": 20},
            0.4,
        )


@pytest.mark.parametrize("recipe", ["glip_l", "glipv2_b", "glipv2_b_stage2", "glipv2_h"])
def test_only_captions_of_pairs_are_packed(recipe, tokenizer, tmp_path):
    """The official code packs those of its caption TSVs; all of 200 of GoldG's stay alone."""
    node = get_config(f"pretrain/{recipe}.py").dataloader.train.mapper
    names = ("negative_captions", "plain_caption_prob", "full_captions_prob")
    options = {name: node[name] for name in names}
    mapper = GroundingDatasetMapper(is_train=True, augmentations=[], tokenizer=tokenizer, **options)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    packed = {}
    for name in ("goldg_mixed_train", "goldg_flickr_train", "cc15m_sbu_train"):
        mapper.prepare(
            name, [{"file_name": f"{i}.png", "caption": f"the bird {i}"} for i in range(100)]
        )
        record = {"file_name": str(tmp_path / "a.png"), "height": 20, "width": 20}
        record |= {"image_id": 1, "caption": "a cat", "annotations": [], "dataset_name": name}
        captions = [mapper(record)["prompt"].caption for _ in range(200)]
        packed[name] = sum("bird" in caption for caption in captions)
    assert packed["goldg_mixed_train"] == packed["goldg_flickr_train"] == 0
    assert 80 < packed["cc15m_sbu_train"] < 150  # 0.6 less one twentieth of a half


def test_odinw_follows_its_name():
    config = load("odinw")
    config.odinw.name, config.odinw.train = "EgoHands_generic", "fewshot_train_shot1_seed3"
    config.odinw.copies = 8
    entry = config.dataloader.train.datasets[0]
    assert list(entry) == ["odinw_EgoHands_generic_fewshot_train_shot1_seed3", 8]
    assert config.dataloader.test.dataset == "odinw_EgoHands_generic_test"


def test_every_test_set_has_its_evaluator():
    pairs = pair_test_sets(load("refcoco").dataloader)
    assert len(pairs) == 8
    for name, (test, evaluator) in pairs.items():
        assert evaluator.dataset_name == test.dataset == name


def test_a_missing_data_set_is_named(tokenizer):
    mapper = GroundingDatasetMapper(is_train=True, augmentations=[], tokenizer=tokenizer)
    names = [list(entry) for entry in load("glipv2_b").dataloader.train.datasets]
    with pytest.raises(DataError, match=r"objects365_train\.json"):
        build_grounding_train_loader(names, mapper=mapper, total_batch_size=1)
