"""Finding configs by name, and the yacs door."""

from pathlib import Path

import pytest
from detectron2.config import LazyCall, get_cfg, instantiate

from glipv2_d2.config import (
    add_glip_config,
    apply_overrides,
    get_config,
    load_model_config,
    named_setting,
    resolve_config,
)
from glipv2_d2.errors import ConfigError, DataError, UsageError


def test_shipped_names():
    path = Path(resolve_config("demo/scenes.py"))
    assert path.is_absolute() and path.name == "scenes.py"
    assert resolve_config("demo/scenes") == str(path)
    assert resolve_config("configs/demo/scenes.py") == str(path)
    assert resolve_config(path) == str(path)


def test_relative_to_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("model = dict(a=1)\n")
    monkeypatch.chdir(tmp_path)
    assert resolve_config("mine.py") == str((tmp_path / "mine.py").resolve())
    assert load_model_config("mine.py").a == 1


def test_missing_config_lists_the_shipped_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"'glip_x.py'.*Shipped: .*demo/scenes.py"):
        resolve_config("glip_x.py")
    with pytest.raises(ConfigError, match="no config file"):
        resolve_config(tmp_path / "none.py")
    with pytest.raises(ConfigError, match="MODEL.GLIP.CONFIG"):
        resolve_config("")


def test_config_without_a_model(tmp_path):
    (tmp_path / "mine.py").write_text("train = dict(a=1)\n")
    with pytest.raises(ConfigError, match="defines no `model` .it defines: train"):
        load_model_config(tmp_path / "mine.py")


def test_yacs_key():
    cfg = get_cfg()
    add_glip_config(cfg)
    cfg.merge_from_list(["MODEL.GLIP.CONFIG", "pretrain/glip_t.py"])
    assert cfg.MODEL.GLIP.CONFIG == "pretrain/glip_t.py"


def test_whole_config_has_the_parts_that_training_needs():
    config = get_config("demo/scenes.py")
    for part in ("model", "dataloader", "optimizer", "lr_multiplier", "train", "inference"):
        assert part in config


class Part:
    def __init__(self, size):
        self.sides = size + (1,)


def test_a_keyword_that_a_part_does_not_have_is_the_configs_fault():
    with pytest.raises(ConfigError, match=r"^model: .*unexpected keyword argument 'sise'"):
        with named_setting("model"):
            instantiate(LazyCall(Part)(sise=(1,)))
    with pytest.raises(ConfigError, match=r"^part: .*unexpected keyword argument 'sise'"):
        with named_setting("part"):
            Part(sise=(1,))


@pytest.mark.parametrize("kind", [ValueError, UsageError])
def test_what_a_constructor_refuses_names_the_part(kind):
    with pytest.raises(ConfigError, match="^model: size must be a tuple$"):
        with named_setting("model"):
            raise kind("size must be a tuple")
    with pytest.raises(DataError, match="^no such file$"):
        with named_setting("model"):
            raise DataError("no such file")


def test_a_type_error_inside_of_a_part_is_a_bug():
    with pytest.raises(TypeError, match="unsupported operand"):
        with named_setting("model"):
            instantiate(LazyCall(Part)(size=1))
    with pytest.raises(TypeError, match="unsupported operand"):
        with named_setting("part"):
            Part(size=1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_iter=abc", "train.max_iter=abc is a text, but it must be a number, such as"),
        ("train.amp.enabled=off", "train.amp.enabled=off is a text.*true or false"),
        ("train=3", "train=3 would replace a part of the config that has: output_dir, "),
        ("model=3", "model=3 would replace a part"),
    ],
)
def test_a_value_of_another_kind_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides(get_config("demo/scenes.py"), [override])


def test_values_that_a_config_may_take():
    given = ["train.max_iter=7", "optimizer.lr=1e-3", "inference.merge_iou=null", "train.amp={}"]
    given += ["dataloader.test.batch_size=${dataloader.train.num_workers}", "train.new=text"]
    config = apply_overrides(get_config("demo/scenes.py"), given)
    assert config.train.max_iter == 7 and config.optimizer.lr == 1e-3
    assert config.inference.merge_iou is None and config.train.new == "text"
    assert config.dataloader.test.batch_size == config.dataloader.train.num_workers


def test_a_key_that_is_new_is_told_with_what_was_perhaps_meant(caplog):
    given = ["inference.score_treshold=0.3", "inference.min_size=64", "mode.x=1"]
    apply_overrides(get_config("demo/scenes.py"), given)
    assert "inference.score_treshold (did you mean 'score_threshold'?), mode.x" in caplog.text
    assert "min_size" not in caplog.text


def test_a_keyword_of_what_a_node_calls_is_not_told(caplog):
    mapper = "dataloader.train.mapper"
    apply_overrides(get_config("demo/scenes.py"), [f"{mapper}.no_regression=[web]"])
    assert not caplog.text
    apply_overrides(get_config("demo/scenes.py"), [f"{mapper}.no_regresion=[web]"])
    assert f"{mapper}.no_regresion (did you mean 'no_regression'?)" in caplog.text


def test_a_key_of_before_is_moved(tmp_path):
    """Of a file, a recipe without `train`, and an override, which replaces what there is."""
    (tmp_path / "mine.py").write_text('model = dict(trained_parts=["head"])\n')
    for change in (
        lambda: get_config(tmp_path / "mine.py"),
        lambda: apply_overrides(get_config("demo/scenes.py"), ["model.trained_parts=[head]"]),
    ):
        with pytest.warns(FutureWarning, match="model.trained_parts is called train.trained_parts"):
            config = change()
        assert config.train.trained_parts == ["head"] and "trained_parts" not in config.model
