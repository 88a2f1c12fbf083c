"""The steps of Detectron2's own programs, with a GLIP from a yacs config and its stock mapper.

Each test names the program; its steps are written as calls, so that they run without a clone.
"""

import json

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.data import (
    DatasetMapper,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.engine import DefaultPredictor, DefaultTrainer
from detectron2.evaluation import COCOEvaluator, inference_on_dataset
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from detectron2.utils.visualizer import ColorMode, Visualizer
from fvcore.nn import FlopCountAnalysis, activation_count, flop_count_table, parameter_count_table

from glipv2_d2.modeling import GLIP, GLIPWithTTA
from tests.support.tiny import lively, tiny_masks_config
from tests.support.yacs_door import NAMES, register_sets, tiny_cfg

MANY = tuple(f"thing number {i}" for i in range(200))  # a thousand tokens


class Traceable(torch.nn.Module):
    """What detectron2.utils.analysis traces (that module itself needs caffe2 in v0.6)."""

    def __init__(self, model, data):
        super().__init__()
        self.model, self.data = model, data

    def forward(self, image):
        with torch.no_grad():
            (output,) = self.model([{**self.data[0], "image": image}])
        fields = output["instances"].get_fields().values()
        values = [x.tensor if isinstance(x, Boxes) else x for x in fields]
        # Of a trace for activations each has to be a tensor.
        assert all(isinstance(x, torch.Tensor) for x in values)
        return tuple(values)


class Trainer(DefaultTrainer):
    """As in Detectron2's tools/train_net.py."""

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        return COCOEvaluator(dataset_name, output_dir=output_folder or cfg.OUTPUT_DIR)

    @classmethod
    def test_with_TTA(cls, cfg, model):
        model = GLIPWithTTA(cfg, model)
        evaluators = [cls.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST]
        results = cls.test(cfg, model, evaluators)
        return {f"{key}_TTA": value for key, value in results.items()}


@pytest.fixture
def taught(monkeypatch):
    """The names of the boxes of every training image, as the losses get them."""
    names, losses = [], GLIP.grounding_losses

    def spy(self, run):
        for prompt, phrases in zip(run.batch.prompts, run.batch.gt_phrases):
            names.append({prompt.names[k] for k in phrases.tolist()})
        return losses(self, run)

    monkeypatch.setattr(GLIP, "grounding_losses", spy)
    return names


def test_train_net_with_more_classes_than_fit_one_prompt(tmp_path, taught):
    """tools/train_net.py: train, evaluate, evaluate with test-time augmentation."""
    sets = {"stock_train": (MANY, MANY[150:152]), "stock_test": (MANY, MANY[150:152])}
    register_sets(tmp_path, **sets)
    keys = {"TEST__AUG__MIN_SIZES": (64,), "TEST__EVAL_PERIOD": 2, "TEST__AUG__ENABLED": True}
    keys["MODEL__ROI_HEADS__SCORE_THRESH_TEST"] = 0.001  # an untrained model is sure of nothing
    cfg = tiny_cfg(tmp_path, train=("stock_train",), test=("stock_test",), **keys)
    trainer = Trainer(cfg)
    before = trainer.model.head.bias0.clone()
    trainer.resume_or_load(resume=False)
    trainer.train()
    augmented = Trainer.test_with_TTA(cfg, trainer.model)
    assert taught == [set(MANY[150:152])] * 4
    assert not torch.equal(trainer.model.head.bias0, before)
    assert {"AP", "AP50", f"AP-{MANY[150]}"} <= set(augmented["bbox_TTA"])
    assert set(trainer._last_eval_results["bbox"]) == set(augmented["bbox_TTA"])


def test_plain_train_net_with_the_same_classes_in_another_order(tmp_path, taught):
    """tools/plain_train_net.py: do_train, then do_test."""
    sets = {"stock_train": (NAMES, NAMES[:2]), "stock_test": (NAMES[::-1], NAMES[:2])}
    register_sets(tmp_path, **sets)
    cfg = tiny_cfg(tmp_path, train=("stock_train",), test=("stock_test",))
    model = build_model(cfg)
    model.train()
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    checkpointer = DetectionCheckpointer(
        model, cfg.OUTPUT_DIR, optimizer=optimizer, scheduler=scheduler
    )
    (tmp_path / "output").mkdir()
    start = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=False).get("iteration", -1)
    periodic = PeriodicCheckpointer(checkpointer, 1, max_iter=cfg.SOLVER.MAX_ITER)
    loader = build_detection_train_loader(cfg)
    with EventStorage(start + 1):
        for data, iteration in zip(loader, range(start + 1, cfg.SOLVER.MAX_ITER)):
            losses = sum(model(data).values())
            assert torch.isfinite(losses)
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
            scheduler.step()
            periodic.step(iteration)
    evaluator = COCOEvaluator("stock_test", output_dir=str(tmp_path))
    with torch.no_grad():
        model.head.bias0.zero_()  # an untrained model is sure of nothing
    results = inference_on_dataset(model, build_detection_test_loader(cfg, "stock_test"), evaluator)
    assert taught == [{"red heart", "blue star"}] * 4
    # "red heart", class 0 of the training set, is the test set's class 3.
    found = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert {x["category_id"] for x in found} == {1, 2, 3} and "AP-red heart" in results["bbox"]
    assert (tmp_path / "output" / "model_final.pth").is_file()


def test_demo_draws_what_scores_enough(tmp_path):
    """demo/demo.py: setup_cfg, then VisualizationDemo.run_on_image."""
    register_sets(tmp_path, stock_test=(NAMES, NAMES))
    cfg = tiny_cfg(tmp_path, test=("stock_test",))
    torch.manual_seed(0)
    model = lively(build_model(cfg)).eval()
    DetectionCheckpointer(model, str(tmp_path)).save("weights")
    image = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    with torch.no_grad():
        everything = model([{"image": torch.as_tensor(image.transpose(2, 0, 1).copy())}])
    scores = everything[0]["instances"].scores
    threshold = float(scores.median())
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = threshold
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = threshold
    cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = threshold
    cfg.freeze()
    predictor = DefaultPredictor(cfg)
    instances = predictor(image)["instances"].to(torch.device("cpu"))
    metadata = MetadataCatalog.get("stock_test")
    drawn = Visualizer(image[:, :, ::-1], metadata, instance_mode=ColorMode.IMAGE)
    picture = drawn.draw_instance_predictions(predictions=instances).get_image()
    assert len(instances) == (scores >= threshold).sum() and 0 < len(instances) < len(scores)
    assert instances.scores.min() >= threshold and not np.array_equal(picture, image[:, :, ::-1])


def test_analyze_model_counts_activations(tmp_path):
    """tools/analyze_model.py --tasks activation parameter: of the image alone, tensors only."""
    register_sets(tmp_path, stock_test=(NAMES, NAMES))
    cfg = tiny_cfg(tmp_path, test=("stock_test",))
    model = lively(build_model(cfg)).eval()
    (inputs,) = next(iter(build_detection_test_loader(cfg, "stock_test")))
    activations, _ = activation_count(Traceable(model, [{}]), (inputs["image"],))
    phrases = model([inputs])[0]["instances"].pred_phrases
    assert activations["conv"] > 0 and activations["linear"] > 0
    assert "head.bias_lang" in parameter_count_table(model, max_depth=5)
    assert set(phrases) <= set(NAMES) and len(phrases)  # the trace alone goes without words


def test_analyze_model_counts_flops(tmp_path, tiny_data):
    """tools/analyze_model.py --tasks flop with a LazyConfig: its loader brings the prompts."""
    register_sets(tmp_path, stock_test=(NAMES, NAMES))
    loader = LazyConfig.load("tests/support/tiny_train.py").dataloader.test
    loader.update(dataset="stock_test", batch_size=1)
    data = next(iter(instantiate(loader)))
    model = lively(instantiate(tiny_masks_config())).eval()
    flops = FlopCountAnalysis(Traceable(model, data), (data[0]["image"],))
    flops.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert flops.total() > 1e6 and "head.text_projection" in flop_count_table(flops, max_depth=4)
    # "red heart. blue star. red moon" has 10 tokens, 32 channels wide: the bias of each, and what
    # the positions are multiplied with.
    words = 10 * 32 + 10 * 32 * 32
    assert flops.by_module_and_operator()["model.head"]["linear"] == words
    assert flops.by_module()["model.mask_head"] > 0


def test_stock_masks_train_the_mask_head(tmp_path):
    """MODEL.MASK_ON and INPUT.MASK_FORMAT "bitmask" give what a GLIPv2's mask head learns from."""
    register_sets(tmp_path, stock_train=(NAMES, NAMES))
    path = tmp_path / "stock_train.json"
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    path.write_text(json.dumps(content))
    keys = {"MODEL__META_ARCHITECTURE": "GLIPv2", "MODEL__MASK_ON": True}
    keys["INPUT__MASK_FORMAT"] = "bitmask"
    cfg = tiny_cfg(tmp_path, tiny_masks_config(), train=("stock_train",), **keys)
    loader = build_detection_train_loader(cfg, mapper=DatasetMapper(cfg, is_train=True))
    losses = build_model(cfg).train()(next(iter(loader)))
    assert losses["loss_mask"] > 0 and losses["loss_mask"].isfinite()
