"""What is trained in each mode, and nothing else; the prompt that a training leaves."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from glip_commands.train import parse, train
from glipv2_d2.checkpoint import load_prompt, read_checkpoint, read_prompt_file
from glipv2_d2.checkpoint.names import is_within
from glipv2_d2.config import get_config
from glipv2_d2.engine.setup import load_config
from glipv2_d2.engine.transfer import MODES, set_mode
from glipv2_d2.errors import ConfigError, DataError
from tests.support.tiny import tiny_model
from tests.support.tiny_data import NAMES


@pytest.fixture
def start_weights(tmp_path):
    """The weights that a training starts from, and their file."""
    weights, path = tiny_model(seed=1).state_dict(), tmp_path / "start.pth"
    torch.save({"model": weights}, path)
    return weights, path


@pytest.mark.parametrize("mode", ["head", "linear", "language"])
def test_what_a_mode_freezes_is_the_same_bit_by_bit_after_twenty_steps(
    mode, run_train_net, start_weights
):
    before, path = start_weights
    options = ("--mode", mode, f"train.init_checkpoint={path}", "train.ema.enabled=True")
    quick = ("dataloader.train.total_batch_size=1", "train.max_iter=20", "optimizer.lr=0.01")
    saved = read_checkpoint(run_train_net(*options, *quick) / "model_final.pth", complete=True)
    parts = MODES[mode]
    trained = {name for name in before if any(is_within(name, part) for part in parts)}
    changed = {n for n, value in saved["model"].items() if not torch.equal(value, before[n])}
    assert changed <= trained and len(changed) > len(trained) / 2
    assert set(saved["ema"]["shadow"]) == trained
    assert len(saved["trainer"]["optimizer"]["state"]) == len(trained)


def test_a_prompt_is_tuned_resumed_and_left_as_a_file(run_train_net, start_weights):
    """Of three classes in two chunks, which no batch of one image has together."""
    before, path = start_weights
    options = ("--mode", "prompt", f"train.init_checkpoint={path}", "train.ema.enabled=True")
    options += ("dataloader.train.total_batch_size=1", "dataloader.test.mapper.chunk_size=2")
    run_train_net(*options, "train.max_iter=10")
    folder = run_train_net(*options, "--resume", "train.max_iter=20", "train.eval_period=0")
    saved = read_checkpoint(folder / "model_final.pth", complete=True)
    tuned = saved["model"].keys() - before.keys()
    assert tuned == {f"prompt_embeddings.offsets/tiny/{i}" for i in range(2)}
    assert all(torch.equal(saved["model"][name], value) for name, value in before.items())
    assert set(saved["ema"]["shadow"]) == tuned
    assert len(saved["trainer"]["optimizer"]["state"]) == 2
    model = tiny_model(seed=1)
    prompts = load_prompt(model, folder / "prompt.safetensors")
    assert [name for prompt in prompts for name in prompt.names] == list(NAMES)
    for prompt in prompts:
        own = model.prompt_embeddings[prompt.embedding_id]
        averaged = saved["ema"]["shadow"][f"prompt_embeddings.offsets/{prompt.embedding_id}"]
        assert averaged.abs().mean() > 0.01
        torch.testing.assert_close(own, averaged, atol=1e-3, rtol=1e-3)  # in half precision
    notes = read_prompt_file(folder / "prompt.safetensors").notes
    assert notes["weights"] == "start.pth" and notes["result"] == "model_final.pth"
    assert "AP50" in json.loads((folder / "last_results.json").read_text())["bbox"]
    log = (folder / "log.txt").read_text()
    assert "prompt_embeddings" in log.split("What is trained:")[1]
    assert "not found in the checkpoint" not in log  # the base has no such prompt


def test_data_that_no_prompt_is_tuned_on(run_train_net, start_weights, tmp_path):
    with pytest.raises(ConfigError, match="no prompt that could be tuned.*--mode prompt"):
        run_train_net("train.trained_parts=[prompt_embeddings]")
    with pytest.raises(DataError, match="'scenes_train_grounding' has none: name one with boxes"):
        run_train_net("--mode", "prompt", "dataloader.train.datasets=[scenes_train_grounding]")


def load(*options):
    return load_config(parse(["--config-file", "pretrain/glip_t.py", "--num-gpus", "0", *options]))


@pytest.mark.parametrize(
    "mode, recipe", [("prompt", "prompt_tuning"), ("linear", "linear_probing")]
)
def test_the_recipes_for_odinw_are_that_of_fine_tuning_in_a_mode(mode, recipe):
    ours = load("--tune", f"{recipe}/odinw.py", "odinw.name=pothole")
    expected = load("--tune", "finetune/odinw.py", "--mode", mode, "odinw.name=pothole")
    assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(expected)
    assert ours.optimizer.lr == {"prompt": 0.05, "linear": 1e-4}[mode]
    assert ours.optimizer.weight_decay == {"prompt": 0.25, "linear": 0.05}[mode]


def test_a_mode_gives_way_to_overrides_and_follows_them():
    config = load(
        "--mode", "prompt", "optimizer.lr=0.1", "dataloader.train.datasets=[pets, [a, 2]]"
    )
    assert config.optimizer.lr == 0.1
    for loader in (config.dataloader.train, config.dataloader.test):
        assert loader.mapper.tuned_datasets == ["pets", ["a", 2]]
    config = load("--eval", "eval/odinw.py", "--mode", "prompt", "model.chunk_size=7")
    further = [test.test.mapper for test in config.dataloader.further_tests.values()]
    for mapper in (config.dataloader.train.mapper, config.dataloader.test.mapper, *further):
        assert mapper.chunk_size == 7 and "tuned_datasets" in mapper


def test_options_of_a_mode():
    config = get_config("pretrain/glip_l.py")
    set_mode(config, "full", freeze_language=True, frozen_stages=2)
    assert config.model.language_backbone.frozen and config.train.trained_parts is None
    assert config.model.backbone.bottom_up.frozen_stages == 2
    set_mode(config, "language")  # what the model itself has frozen would stay so
    assert not config.model.language_backbone.frozen


def test_the_command_line_has_every_mode():
    (option,) = [parameter for parameter in train.params if parameter.name == "mode"]
    assert list(option.type.choices) == list(MODES)


def test_modes_that_are_none_or_do_not_fit():
    config = get_config("pretrain/glip_t.py")
    with pytest.raises(ConfigError, match="'lora': choose one of full, head, linear, prompt, lang"):
        set_mode(config, "lora")
    with pytest.raises(ConfigError, match="are for the mode 'full': 'head' says itself"):
        set_mode(config, "head", frozen_stages=1)
    del config.dataloader.train.mapper
    with pytest.raises(ConfigError, match="dataloader.train.mapper must be a GroundingDatasetM"):
        set_mode(config, "prompt")
