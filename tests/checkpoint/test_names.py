"""Names of weights without those of wrappers, wherever the weights lie."""

import pytest
import torch
from safetensors.torch import save_file

from glipv2_d2.checkpoint import read_checkpoint, weight_names
from tests.support.toy_model import assert_same_weights


@pytest.mark.parametrize(
    "name",
    [
        "module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "model.{}",
        "model.module.{}", "module.model.{}", "model._orig_mod.{}", "_fsdp_wrapped_module.{}",
    ],
)  # fmt: skip
def test_names_without_wrappers(tmp_path, weights, name):
    wrapped = {name.format(n): value for n, value in weights.items()}
    torch.save({"state_dict": wrapped}, tmp_path / "w.pth")
    save_file(wrapped, str(tmp_path / "w.safetensors"))
    for path in (tmp_path / "w.pth", tmp_path / "w.safetensors"):
        assert_same_weights(read_checkpoint(path)["model"], weights)
        assert set(weight_names(path)) == set(weights)


def test_a_part_that_is_called_model_keeps_its_name(tmp_path):
    weights = {"model.weight": torch.ones(1), "head.model.weight": torch.zeros(1)}
    torch.save(weights, tmp_path / "w.pth")
    assert_same_weights(read_checkpoint(tmp_path / "w.pth")["model"], weights)
    torch.save({"encoder._orig_mod.weight": torch.ones(1)}, tmp_path / "w.pth")
    assert list(read_checkpoint(tmp_path / "w.pth")["model"]) == ["encoder.weight"]
