"""What Detectron2's own keys do to a GLIP: each has its effect, is refused, or is named."""

import json

import pytest
import torch
from detectron2.config import get_cfg, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling import build_model

from glipv2_d2 import add_glip_config
from glipv2_d2.errors import ConfigError
from glipv2_d2.modeling import GLIPWithTTA, yacs
from tests.support.tiny import lively, tiny_config, tiny_input, tiny_masks_config
from tests.support.yacs_door import NAMES, tiny_cfg

ROI, RETINANET = "MODEL__ROI_HEADS__", "MODEL__RETINANET__"


@pytest.fixture(autouse=True)
def three_classes():
    MetadataCatalog.get("yacs_three").thing_classes = list(NAMES)


@pytest.fixture
def built(tmp_path):
    def build(config=None, **keys):
        torch.manual_seed(0)
        cfg = tiny_cfg(tmp_path, config, test=("yacs_three",), **keys)
        return lively(build_model(cfg)).eval()

    return build


def found(model):
    inputs = tiny_input(96, 128)
    del inputs["prompt"], inputs["instances"]
    with torch.no_grad():
        return model([inputs])[0]["instances"]


def test_detectron2s_defaults_change_nothing(built):
    config = tiny_config()
    config.vocabulary = list(NAMES)
    model, lazy = built(), instantiate(config).eval()
    with torch.no_grad():  # some score less than Detectron2's 0.05, which is no threshold of GLIP's
        model.head.centerness.bias.fill_(-6)
    lazy.load_state_dict(model.state_dict())
    instances, expected = found(model), found(lazy)
    assert torch.equal(instances.scores, expected.scores)
    assert (instances.scores < 0.05).sum() > 5 and (instances.scores > 0.03).all()
    assert torch.equal(instances.pred_boxes.tensor, expected.pred_boxes.tensor)


@pytest.mark.parametrize("keys", [(ROI,), (RETINANET,), (ROI, RETINANET)])
def test_score_threshold(built, keys):
    everything = found(built())
    threshold = float(everything.scores.sort(descending=True).values[9:11].mean())
    instances = found(built(**{f"{key}SCORE_THRESH_TEST": threshold for key in keys}))
    assert len(instances) == 10
    assert torch.equal(instances.scores, everything.scores[:10])


def test_a_low_score_threshold_lets_more_through(built):
    default, low = built(), built(**{f"{ROI}SCORE_THRESH_TEST": 0.001})
    assert low.postprocessor.score_threshold == 0.001 and low.min_score == 0.001
    with torch.no_grad():
        for model in (default, low):
            model.head.bias0.fill_(-7)  # class scores of some hundredths
    assert len(found(default)) < 5 < len(found(low))


def test_threshold_of_an_input_goes_before_that_of_the_config(built):
    model = built(**{f"{ROI}SCORE_THRESH_TEST": 0.9999})
    inputs = tiny_input(96, 128)
    del inputs["prompt"], inputs["instances"]
    with torch.no_grad():
        (none, some) = model([inputs, {**inputs, "min_score": 0.0}])
    assert len(none["instances"]) == 0 and len(some["instances"]) > 50


def test_most_detections_of_an_image_however_many_prompts(built):
    config = tiny_config()
    config.chunk_size = 1
    everything = found(built(config))
    instances = found(built(config, TEST__DETECTIONS_PER_IMAGE=7))
    assert len(everything) > 100 and len(instances) == 7
    assert torch.equal(instances.scores, everything.scores[:7])
    loose = {f"{ROI}NMS_THRESH_TEST": 0.95}  # so that more than a hundred are left
    assert len(found(built(**loose))) == 100
    assert len(found(built(**loose, TEST__DETECTIONS_PER_IMAGE=150))) == 150


def test_masks_are_of_the_detections_that_are_left(built):
    config = tiny_masks_config(chunk_size=1)
    keys = {"MODEL__META_ARCHITECTURE": "GLIPv2", "MODEL__MASK_ON": True}
    everything = found(built(config, **keys))
    instances = found(built(config, TEST__DETECTIONS_PER_IMAGE=7, **keys))
    assert torch.equal(instances.pred_masks, everything.pred_masks[:7])


def test_overlap_and_candidates(built):
    model = built(**{f"{RETINANET}NMS_THRESH_TEST": 0.7, f"{RETINANET}TOPK_CANDIDATES_TEST": 50})
    assert (model.postprocessor.nms_threshold, model.postprocessor.topk_candidates) == (0.7, 50)
    assert built().postprocessor.nms_threshold == 0.6


@pytest.mark.parametrize("key", ["SCORE_THRESH_TEST", "NMS_THRESH_TEST"])
def test_two_keys_that_say_different_things(built, key):
    with pytest.raises(ConfigError, match=f"ROI_HEADS.{key} is 0.3 and .*RETINANET.{key} is 0.4"):
        built(**{ROI + key: 0.3, RETINANET + key: 0.4})


def test_images_in_another_channel_order_than_the_models(built):
    with pytest.raises(ConfigError, match="INPUT.FORMAT is 'RGB', but .* takes 'BGR' images"):
        built(INPUT__FORMAT="RGB")
    config = tiny_config()
    config.input_format = "RGB"
    with pytest.raises(ConfigError, match="set INPUT.FORMAT to 'RGB'"):
        built(config)
    assert built(config, INPUT__FORMAT="RGB").input_format == "RGB"


def test_keys_without_effect_are_named(built, caplog):
    built()
    assert caplog.text == ""
    keys = {"MODEL__BACKBONE__FREEZE_AT": 0, "MODEL__MASK_ON": True, f"{ROI}NUM_CLASSES": 8}
    built(**keys, MODEL__PIXEL_MEAN=[1.0, 2.0, 3.0], MODEL__RESNETS__DEPTH=101)
    (record,) = caplog.records
    named = "MODEL.MASK_ON, MODEL.PIXEL_MEAN, MODEL.BACKBONE.FREEZE_AT, MODEL.ROI_HEADS.NUM_CLASSES"
    assert set(f"{named}, MODEL.RESNETS.DEPTH".split(", ")) == set(
        record.getMessage().partition(":")[0].split(", ")
    )
    assert "without effect on a GLIP" in record.getMessage()


def test_what_is_true_or_used_is_not_named(built, caplog):
    keys = {"MODEL__PANOPTIC_FPN__COMBINE__INSTANCES_CONFIDENCE_THRESH": 0.4}
    built(**{f"{ROI}NUM_CLASSES": 3, f"{RETINANET}SCORE_THRESH_TEST": 0.4}, **keys)
    built(tiny_masks_config(), MODEL__META_ARCHITECTURE="GLIPv2", MODEL__MASK_ON=True)
    assert caplog.text == ""


def test_mirrored_images_of_classes_with_a_direction_are_named(tmp_path, caplog):
    MetadataCatalog.get("yacs_shoes").thing_classes = ["left shoe", "hat", "right shoe"]
    build_model(tiny_cfg(tmp_path, train=("yacs_shoes",), INPUT__RANDOM_FLIP="none"))
    assert caplog.text == ""
    build_model(tiny_cfg(tmp_path, train=("yacs_shoes",)))
    assert "INPUT.RANDOM_FLIP 'horizontal'" in caplog.text
    assert "'left shoe', 'right shoe'" in caplog.text


def test_test_time_augmentation_is_built_from_the_config(tmp_path, built, caplog):
    keys = {"TEST__AUG__MIN_SIZES": (64, 96), "TEST__AUG__MAX_SIZE": 200, "TEST__AUG__FLIP": False}
    cfg = tiny_cfg(tmp_path, TEST__AUG__ENABLED=True, TEST__DETECTIONS_PER_IMAGE=5, **keys)
    model = built(TEST__AUG__ENABLED=True, **keys)
    assert "TEST.AUG.ENABLED: Detectron2's GeneralizedRCNNWithTTA" in caplog.text
    augmented = GLIPWithTTA(cfg, model).eval()
    assert [r.short_edge_length[0] for r in augmented.resizes] == [64, 96]
    assert {r.max_size for r in augmented.resizes} == {200} and not augmented.flip
    assert len(found(augmented)) == 5


def test_a_yacs_model_reads_the_classes_of_a_coco_set_that_was_not_loaded(tmp_path, monkeypatch):
    content = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "yak"}]}
    path = tmp_path / "yaks.json"
    path.write_text(json.dumps(content))
    register_coco_instances("yaks", {}, str(path), str(tmp_path))
    monkeypatch.setattr(yacs, "load_model_config", lambda name: tiny_config())
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GLIP"
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TEST = ("yaks",)
    try:
        assert build_model(cfg).vocabulary_prompts[0].names == ("yak",)
    finally:
        DatasetCatalog.remove("yaks")
        MetadataCatalog.remove("yaks")
