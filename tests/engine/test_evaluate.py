"""One test set, several, and pairs that do not match."""

import json
from collections import Counter

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators
from detectron2.structures import ROIMasks
from omegaconf import OmegaConf
from torch import nn

from glipv2_d2.config import get_config
from glipv2_d2.engine import CLOCPredictor
from glipv2_d2.engine.evaluate import evaluate_test_sets, in_original_size, pair_test_sets
from glipv2_d2.engine.training import do_test
from glipv2_d2.errors import ConfigError
from glipv2_d2.language import Prompt
from glipv2_d2.modeling import GLIPWithTTA
from tests.support.tiny import lively, tiny_masks_model, tiny_question, tiny_tasks_config
from tests.support.tiny_cloc import tiny_cloc, tiny_cloc_config
from tests.support.tiny_data import NAMES, write_tiny_data


class Counts(DatasetEvaluator):
    def __init__(self, dataset_name="some"):
        self.dataset_name = dataset_name

    def reset(self):
        self.count = 0

    def process(self, inputs, outputs):
        self.count += len(inputs)

    def evaluate(self):
        return {"bbox": {"AP": float(self.count)}}


class Model(nn.Module):
    def forward(self, inputs):
        assert not self.training
        return [{} for _ in inputs]


def batches(count):
    return [[{}] * 2] * count


def loaders(test, evaluator):
    return OmegaConf.create({"test": test, "evaluator": evaluator}, flags={"allow_objects": True})


def test_a_single_set_returns_its_metrics_as_stock_does():
    config = loaders(L(batches)(count=3), L(Counts)())
    model = Model().train()
    assert evaluate_test_sets(config, model) == {"bbox": {"AP": 6.0}}
    assert model.training


class BoxesOnly(Counts):
    boxes_only = True

    def process(self, inputs, outputs):
        super().process(inputs, outputs)
        assert not any(x["instances"].has("pred_masks") for x in outputs)


class SmallMasks(Counts):
    roi_masks = True

    def process(self, inputs, outputs):
        super().process(inputs, outputs)
        for x in outputs:
            assert isinstance(x["instances"].pred_masks, ROIMasks)
            assert x["instances"].image_size == (100, 150)


class PastedMasks(Counts):
    def process(self, inputs, outputs):
        super().process(inputs, outputs)
        for x in outputs:
            assert x["instances"].pred_masks.shape == (len(x["instances"]), 100, 150)


def questions():
    inputs = tiny_question(Prompt.from_classes(["cat", "dog"]))
    return [[{**inputs, "height": 100, "width": 150}]]


@pytest.mark.parametrize("augmented", [False, True])
def test_an_evaluator_gets_the_masks_that_it_asks_for(augmented):
    model = tiny_masks_model()
    model = GLIPWithTTA(model, min_sizes=(64,), flip=False) if augmented else model
    loader = L(questions)()
    combined = L(DatasetEvaluators)(evaluators=[L(BoxesOnly)()])
    evaluators = {
        "none": L(BoxesOnly)(), "small": L(SmallMasks)(), "any": L(PastedMasks)(),
        "combined": combined,
    }  # fmt: skip
    further = {k: {"test": loader, "evaluator": v} for k, v in evaluators.items()}
    config = OmegaConf.create({"further_tests": further}, flags={"allow_objects": True})
    results = evaluate_test_sets(config, model.train())
    assert results == dict.fromkeys(evaluators, {"bbox": {"AP": 1.0}}) and model.training


class Asked(Counts):
    def process(self, inputs, outputs):
        super().process(inputs, outputs)
        self.asked = [x["prompt"].caption for x in outputs if "prompt" in x]

    def evaluate(self):
        return {"vqa": {text: float(self.asked.count(text)) for text in self.asked}}


@pytest.mark.parametrize(("ground_answer", "end"), [(False, ""), (True, " [MASK]")])
def test_questions_are_asked_as_the_predictor_asks_them(ground_answer, end):
    """A plain data set does not know whether its model was trained with open answers."""
    model = instantiate(tiny_tasks_config()).eval()
    model.vqa_head.ground_answer = ground_answer
    model.set_vocabulary(["cat"])
    plain = Prompt.from_caption("is it red?", [[(6, 9)]], kind="question")
    prompts = [plain, [plain.left_open()], Prompt.from_classes(["dog"]), None]
    batch = [tiny_question(prompt) for prompt in prompts]
    found = evaluate_test_sets(loaders(L(lambda: [batch])(), L(Asked)()), model)
    assert found["vqa"] == Counter([f"is it red?{end}", "is it red? [MASK]"])


def test_dicts_and_lists_of_sets_as_in_0_1():
    config = loaders(
        {"val": L(batches)(count=1), "novel": L(batches)(count=2)},
        {"novel": L(Counts)(), "val": L(Counts)()},
    )
    with pytest.warns(FutureWarning, match="belong into dataloader.further_tests"):
        results = evaluate_test_sets(config, Model())
    assert results == {"val": {"bbox": {"AP": 2.0}}, "novel": {"bbox": {"AP": 4.0}}}

    config = loaders(
        [L(batches)(count=1), L(batches)(count=2)],
        [L(Counts)(dataset_name="a"), L(Counts)(dataset_name="b")],
    )
    with pytest.warns(FutureWarning):
        assert list(evaluate_test_sets(config, Model())) == ["a", "b"]
    config.evaluator[1].dataset_name = "a"
    with pytest.raises(ConfigError, match="two test sets of dataloader.test have one name"):
        pair_test_sets(config)


def with_further(**further):
    config = loaders(L(batches)(count=1), L(Counts)(dataset_name="scenes_val"))
    config.further_tests = further
    return config


def test_further_sets_beside_the_one_that_detectron2_evaluates():
    further = {"test": L(batches)(count=2), "evaluator": L(Counts)(dataset_name="other")}
    results = evaluate_test_sets(with_further(novel=further), Model())
    assert results == {"scenes_val": {"bbox": {"AP": 2.0}}, "novel": {"bbox": {"AP": 4.0}}}
    assert evaluate_test_sets(with_further(), Model()) == {"bbox": {"AP": 2.0}}


@pytest.mark.parametrize(
    "further, message",
    [
        ({"novel": {"test": L(batches)(count=2)}}, "further_tests.novel must be a dict of `test`"),
        ({"novel": L(batches)(count=2)}, "further_tests.novel .*; it is one node"),
        (
            {"scenes_val": {"test": L(batches)(count=2), "evaluator": L(Counts)()}},
            "two test sets are called 'scenes_val'",
        ),
    ],
)
def test_further_sets_that_would_be_lost(further, message):
    with pytest.raises(ConfigError, match=message):
        pair_test_sets(with_further(**further))


def test_no_test_set():
    assert evaluate_test_sets(OmegaConf.create({"train": {}}), Model()) == {}


@pytest.mark.parametrize(
    "test, evaluator",
    [
        ({"a": L(batches)(count=1)}, {"b": L(Counts)()}),
        ([L(batches)(count=1)], []),
        (L(batches)(count=1), [L(Counts)()]),
    ],
)
def test_one_test_set_is_beside_the_further_ones(test, evaluator):
    with pytest.raises(
        ConfigError, match="dataloader.test and dataloader.evaluator must be one node each"
    ):
        pair_test_sets(loaders(test, evaluator))


def test_test_time_augmentation_sees_the_original_pixels():
    loader = get_config("demo/scenes.py").dataloader.test
    plain = in_original_size(loader)
    assert len(loader.mapper.augmentations) == 1
    assert len(plain.mapper.augmentations) == 0
    assert plain.mapper.image_format == "BGR"  # an interpolation into the rest of the config


class Phrases(Counts):
    """How many different ones were found."""

    def __init__(self, **wishes):
        super().__init__()
        self.__dict__.update(wishes)

    def process(self, inputs, outputs):
        self.count += len({name for x in outputs for name in x["instances"].pred_phrases})


def test_a_shortlist_of_the_config_whatever_the_evaluator_asks_for():
    torch.manual_seed(0)
    model = lively(instantiate(tiny_tasks_config()))
    evaluators = {
        "boxes": L(Phrases)(boxes_only=True),
        "small": L(Phrases)(roi_masks=True),
        "any": L(Phrases)(),
    }
    further = {k: {"test": L(questions)(), "evaluator": v} for k, v in evaluators.items()}
    config = OmegaConf.create(
        {
            "dataloader": {"further_tests": further},
            "inference": {"shortlist": 1, "pinned": ["dog"]},
            "train": {"device": "cpu", "output_dir": None},
        },
        flags={"allow_objects": True},
    )
    assert do_test(config, model) == dict.fromkeys(evaluators, {"bbox": {"AP": 1.0}})
    config.inference.shortlist = None
    assert do_test(config, model) == dict.fromkeys(evaluators, {"bbox": {"AP": 2.0}})
    config.inference.shortlist = 1
    with pytest.raises(ConfigError, match="config with model.contrast"):
        do_test(config, tiny_masks_model())


def test_evaluators_of_regions_give_the_model_all_boxes(tmp_path):
    """The loader and evaluator of the shipped config; batches make no difference."""
    write_tiny_data(tmp_path, images=4)
    register_coco_instances("tiny_regions", {}, str(tmp_path / "tiny.json"), str(tmp_path))
    config = get_config("demo/scenes_cloc.py")
    config.model = tiny_cloc_config()
    config.train.output_dir = str(tmp_path)
    config.dataloader.further_tests = {}
    config.dataloader.test.dataset = "tiny_regions"
    config.dataloader.evaluator.dataset_name = "tiny_regions"
    model, results = tiny_cloc(), []
    for size in (1, 3):
        config.dataloader.test.batch_size = size
        results.append(evaluate_test_sets(config.dataloader, model))
    assert results[0] == results[1]
    metrics = results[0]["region_classification"]
    assert metrics.keys() == {"mAcc", "acc"}
    # By the model itself, of the six boxes: 96 pixels become the 32 that the tower sees.
    (file,) = (tmp_path / "inference").rglob("tiny_regions.json")
    rows = json.loads(file.read_text())
    assert len(rows) == 6
    predictor = CLOCPredictor(model)
    names = predictor.embed_texts(NAMES)
    for row in rows:
        picture = predictor.set_image(tmp_path / f"{row['image_id'] - 1:03d}.png")
        likeliest = (picture.embed_boxes([row["box"]]) @ names.T).argmax()
        assert row["class"] == NAMES[likeliest]
