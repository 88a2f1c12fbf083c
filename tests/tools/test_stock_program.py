"""Detectron2's own tools/lazyconfig_train_net.py, step by step, on shipped configs.

Its steps are written out here, since the program itself is not installed with Detectron2.
"""

import inspect
import json
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import SimpleTrainer, hooks
from detectron2.engine.defaults import create_ddp_model
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils.events import JSONWriter
from fvcore.common.param_scheduler import ParamScheduler
from torch.nn.parallel import DistributedDataParallel

from glipv2_d2.config import get_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
WHOLE = sorted(
    path.relative_to(CONFIGS).as_posix()
    for folder in ("pretrain", "mask", "demo")
    for path in (CONFIGS / folder).glob("*.py")
)


def load(path, folder, *options):
    """The config as on the program's command line on a CPU; small, else unchanged."""
    overrides = ["train.device=cpu", "train.amp.enabled=False", f"train.output_dir={folder}"]
    small = ["train.max_iter=1", "dataloader.train.total_batch_size=1"]
    small += ["dataloader.train.num_workers=0"]
    return LazyConfig.apply_overrides(get_config(path), [*overrides, *small, *options])


def do_test(cfg, model):
    result = inference_on_dataset(
        model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    )
    print_csv_format(result)
    return result


def do_train(cfg):
    model = instantiate(cfg.model)
    model.to(cfg.train.device)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    train_loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    trainer = SimpleTrainer(model, train_loader, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    writers = [JSONWriter(f"{cfg.train.output_dir}/metrics.json")]
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer),
            hooks.EvalHook(cfg.train.eval_period, lambda: do_test(cfg, model)),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period),
        ]
    )
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=False)
    trainer.train(0, cfg.train.max_iter)


@pytest.mark.parametrize(
    "path", ["demo/scenes.py", "demo/scenes_glipv2.py", "demo/scenes_mask_rcnn.py"]
)
def test_a_training_ends_with_its_evaluation(path, scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    do_train(load(path, tmp_path))
    assert (tmp_path / "model_final.pth").is_file()
    metrics = {}
    for line in (tmp_path / "metrics.json").read_text().splitlines():
        metrics.update(json.loads(line))
    assert metrics["total_loss"] > 0
    assert "bbox/AP50" in metrics  # NaN where an untrained model finds nothing


def test_shipped_weights_are_evaluated(scenes, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    weights = f"safetensors:{ROOT / 'weights' / 'glip_scenes.safetensors'}"
    cfg = load("demo/scenes.py", tmp_path, f"train.init_checkpoint={weights}")
    model = instantiate(cfg.model)
    model.to(cfg.train.device)
    model = create_ddp_model(model)
    DetectionCheckpointer(model).load(cfg.train.init_checkpoint)
    assert "not found in the checkpoint" not in caplog.text
    assert do_test(cfg, model)["bbox"]["AP50"] > 30


@pytest.mark.parametrize("path", WHOLE)
def test_every_config_has_what_the_program_reads(path):
    cfg = get_config(path)
    assert torch.device(cfg.train.device) == torch.device("cuda")
    assert "_target_" in cfg.dataloader.test and "_target_" in cfg.dataloader.evaluator
    assert isinstance(instantiate(cfg.lr_multiplier), ParamScheduler)
    assert set(cfg.train.checkpointer) == {"period", "max_to_keep"}
    ddp = set(inspect.signature(DistributedDataParallel).parameters) | {"fp16_compression"}
    assert set(cfg.train.ddp) <= ddp
    assert isinstance(cfg.train.amp.enabled, bool)
    assert {"max_iter", "eval_period", "log_period", "init_checkpoint"} <= set(cfg.train)
    for name, further in cfg.dataloader.get("further_tests", {}).items():
        assert set(further) == {"test", "evaluator"}, name
