"""What the command line makes of a config, and what is refused before anything is built."""

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from omegaconf import OmegaConf
from torch import nn

from glip_commands.train import parse
from glipv2_d2.checkpoint import freeze_vocabulary
from glipv2_d2.config import get_config
from glipv2_d2.engine import setup
from glipv2_d2.engine.evaluate import add_test_set
from glipv2_d2.engine.setup import (
    load_config,
    require_best_metric,
    require_fsdp,
    require_masks,
    tell_tasks,
)
from glipv2_d2.errors import ConfigError
from glipv2_d2.language.frozen_tokenizer import FrozenTokenizer
from tests.support.tiny import tiny_model, tiny_tasks_config


def device(*options):
    command = ["--config-file", "demo/scenes.py", *options]
    return load_config(parse(command)).train.device


@pytest.mark.parametrize("there", [False, True])
def test_cuda_of_a_config_is_where_there_is_one_and_it_is_wanted(there, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert get_config("demo/scenes.py").train.device == "cuda"
    assert device("--num-gpus", "0") == "cpu"
    assert "GPU" not in caplog.text
    assert device() == ("cuda" if there else "cpu")
    assert ("PyTorch sees no GPU here: the model runs on the CPU" in caplog.text) is not there
    assert device("train.device=auto") == ("cuda" if there else "cpu")


def test_a_device_of_the_command_line_is_meant_literally(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device("train.device=cpu") == "cpu"
    with pytest.raises(ConfigError, match="'cuda' was asked for, but PyTorch sees no CUDA GPU"):
        device("train.device=cuda")


def test_mask_training_needs_masks():
    config = get_config("demo/scenes_glipv2_mask.py")
    require_masks(config)
    config.dataloader.train.mapper.use_masks = False
    with pytest.raises(ConfigError, match="dataloader.train.mapper.use_masks=True"):
        require_masks(config)
    config.train.trained_parts = ["head"]  # masks are not trained
    require_masks(config)
    config.train.trained_parts, config.model.mask_head = None, None
    require_masks(config)


@pytest.mark.parametrize(
    ("head", "tasks"), [("vqa_head", ["caption"]), ("caption_head", ["question"])]
)
def test_the_loader_is_told_what_the_model_learns(head, tasks):
    config = get_config("demo/scenes.py")
    tell_tasks(config, instantiate(tiny_tasks_config(**{head: None})))
    assert config.dataloader.train.tasks == tasks
    known = None if head == "vqa_head" else ["red", "blue", "2"]
    assert config.dataloader.train.get("answers") == known


def test_a_loader_of_another_kind_is_told_nothing():
    config = get_config("demo/scenes.py")
    config.dataloader.train = L(list)(iterable=[])
    tell_tasks(config, nn.Linear(1, 1))
    config.dataloader.train._target_ = "detectron2.data.build_detection_train_loader"
    tell_tasks(config, instantiate(tiny_tasks_config()))
    assert "tasks" not in config.dataloader.train


def test_further_test_sets_are_evaluated_as_the_configs_own(tmp_path):
    register = tmp_path / "mine.py"
    register.write_text(
        "from glipv2_d2.data import register_coco_dataset\n"
        "register_coco_dataset('my_old', 'old.json', 'images')\n"
    )
    command = ["--config-file", "demo/scenes.py", "--register", str(register), "--old", "my_old"]
    config = load_config(parse([*command, "dataloader.test.num_workers=3"]))
    assert "my_old" in DatasetCatalog
    added = config.dataloader.further_tests.my_old
    assert (added.test.dataset, added.test.num_workers) == ("my_old", 3)
    assert added.test.mapper.augmentations == config.dataloader.test.mapper.augmentations
    assert added.evaluator.dataset_name == "my_old"
    assert added.evaluator.output_dir == f"{config.train.output_dir}/inference/my_old"
    assert config.dataloader.test.dataset == "scenes_val"
    twice = load_config(parse(["--config-file", "demo/scenes.py", "--old", "my_old,my_old"]))
    assert [name for name in twice.dataloader.further_tests if "old" in name] == ["my_old"]
    with pytest.raises(ConfigError, match="'scenes_val' is a test set already"):
        load_config(parse(["--config-file", "demo/scenes.py", "--old", "scenes_val"]))


def test_of_several_test_sets_the_best_metric_names_one():
    def config(metric):
        return load_config(
            parse(["--config-file", "demo/scenes.py", f"train.best_metric={metric}"])
        )

    message = "'bbox/AP', and .* several test sets: .* 'scenes_val/bbox/AP' .of: scenes_val, "
    for metric in ("bbox/AP", "[scenes_val/bbox/AP,bbox/AP]"):
        with pytest.raises(ConfigError, match=message):
            require_best_metric(config(metric))
    for metric in ("''", "scenes_val/bbox/AP", "[scenes_val/bbox/AP,scenes_novel/bbox/AP]"):
        require_best_metric(config(metric))
    one = config("bbox/AP")
    del one.dataloader.further_tests
    require_best_metric(one)


def test_old_data_sets_are_evaluated_as_the_test_set():
    with pytest.raises(ConfigError, match="'old' is .* dataloader.test is no single one: name the"):
        add_test_set(OmegaConf.create({"further_tests": {}}), "old")


def test_the_data_loaders_ask_for_the_fixed_vocabulary_of_the_weights(tmp_path):
    file = freeze_vocabulary(tiny_model(), ["red star", "ring"], tmp_path / "w.safetensors")
    config = load_config(
        parse(["--config-file", "demo/scenes.py", f"train.init_checkpoint={file}"])
    )
    for loader in (config.dataloader.train, config.dataloader.test):
        tokenizer = instantiate(loader.mapper.tokenizer)
        assert isinstance(tokenizer, FrozenTokenizer) and tokenizer.names == ["red star", "ring"]
    assert config.model.vocabulary == ["red star", "ring"]
    assert config.model.language_backbone.frozen  # as in the config


@pytest.mark.parametrize(
    ("options", "processes", "message"),
    [
        ({}, 1, "cuts a model over processes, and there is one: start more"),
        ({"amp": {"enabled": True, "precision": "fp16"}}, 2, "trains in bf16 or float32"),
        ({"trained_parts": ["prompt_embeddings"]}, 2, "a tuned prompt has kilobytes"),
    ],
)
def test_what_cannot_be_cut_over_processes_is_refused(monkeypatch, options, processes, message):
    config = get_config("demo/scenes.py")
    config.train.fsdp = True
    config.train.update(options)
    monkeypatch.setattr(setup.comm, "get_world_size", lambda: processes)
    with pytest.raises(ConfigError, match=f"train.fsdp=True .*{message}"):
        require_fsdp(config)
    config.train.fsdp = False
    require_fsdp(config)
