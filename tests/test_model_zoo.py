"""Published models by name: where their weights are sought, and what is said when they are not."""

import os
from pathlib import Path

import huggingface_hub
import pytest
import torch

import glipv2_d2
from glip_commands.command import DEFAULT_MODEL, MODELS
from glipv2_d2 import model_zoo
from glipv2_d2.config import resolve_config
from glipv2_d2.errors import CheckpointError, ConfigError, UsageError
from tests.support.official_weights import official_state
from tests.support.tiny import tiny_model

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "model_zoo.md"
FILE = "glip_tiny_model_o365_goldg_cc_sbu.pth"


class Hub:
    """The hub's client: a cache, and a network that may be missing."""

    def __init__(self):
        self.cached, self.network, self.asked = None, False, 0

    def try_to_load_from_cache(self, repository, file):
        assert repository == "GLIPModel/GLIP"
        return self.cached

    def hf_hub_download(self, repository, file):
        self.asked += 1
        if not self.network:
            raise OSError("The hub cannot be reached.\nMore of it.")
        return f"/fetched/{repository}/{file}"


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    hub = Hub()
    for name in ("try_to_load_from_cache", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(hub, name))
    monkeypatch.delenv("GLIP_WEIGHTS", raising=False)
    return hub


def test_every_name_has_a_config_and_is_in_the_document():
    assert glipv2_d2.model_zoo is model_zoo
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in model_zoo.names():
        published = model_zoo._MODELS[name]
        assert f"| `{name}` | `{published.config}` | `{published.file}` |" in text
        assert resolve_config(published.config)
        assert model_zoo.get_config(name).model


def test_the_commands_offer_all_names():
    assert MODELS == tuple(model_zoo.names()) and DEFAULT_MODEL in MODELS


def test_the_weights_of_the_demo_are_here(hub):
    for name in ("glip_scenes", "glipv2_scenes"):
        path = model_zoo.local_weights(name)
        assert path.parent.name == "weights" and path.stat().st_size > 10**7
        assert model_zoo.find_model(name) == (model_zoo.config_name(name), str(path))
        assert model_zoo.find_model(weights=name) == model_zoo.find_model(name)
        noted = model_zoo.find_model(weights=str(path)).config
        assert resolve_config(noted) == resolve_config(model_zoo.config_name(name))
    assert not hub.asked


def test_shipped_weights_that_are_not_there(monkeypatch, hub):
    monkeypatch.setattr(model_zoo, "shipped_folders", lambda name: [])
    with pytest.raises(CheckpointError, match="not in this installation: give weights/glip_scenes"):
        model_zoo.find_model("glip_scenes")
    assert not hub.asked


def test_a_model_of_ones_own(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"x")
    assert model_zoo.find_model("", "mine.py", str(path)) == ("mine.py", str(path))
    mine = model_zoo.find_model("", "mine.py", "glipv2_scenes")
    assert mine.config == "mine.py" and mine.weights.endswith("glipv2_scenes.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("", "", ""), "no weights are given: --model NAME, or --weights FILE .*glipv2_scenes"),
        (("", "demo/scenes.py", ""), "no weights are given"),
        (("glip_t", "demo/scenes.py", ""), "--model glip_t says .* and --config-file says another"),
        (("glip_t", "", "glip_t"), "--model glip_t says .* and --weights says another: give one"),
        (("", "", "glip_x"), "no file 'glip_x', and no published model.*glip_t_a"),
        (("", "", __file__), "does not say of which model it is: give --config-file"),
    ],
)
def test_options_that_are_no_model(options, message):
    with pytest.raises(UsageError, match=message):
        model_zoo.find_model(*options)


def test_unknown_name():
    for call in (model_zoo.get, model_zoo.get_config, model_zoo.find_weights):
        with pytest.raises(ConfigError, match="no published model 'glip_x'.*glip_t_a, .*glip_l"):
            call("glip_x")


def test_given_file_or_folder(tmp_path):
    path = tmp_path / "anything.pth"
    path.write_bytes(b"x")
    assert model_zoo.find_weights("glip_t", path) == path
    with pytest.raises(CheckpointError, match=f"looked for {FILE}, glip_t.safetensors"):
        model_zoo.find_weights("glip_t", tmp_path)
    (tmp_path / "glip_t.safetensors").write_bytes(b"x")
    assert model_zoo.find_weights("glip_t", tmp_path).name == "glip_t.safetensors"
    with pytest.raises(CheckpointError, match="no weights of 'glip_t' at 'none.pth'"):
        model_zoo.find_weights("glip_t", "none.pth")


def test_order_of_the_places(tmp_path, hub, monkeypatch):
    hub.network = True
    assert str(model_zoo.find_weights("glip_t")) == f"/fetched/GLIPModel/GLIP/{FILE}"
    hub.cached, hub.asked = "/cache/glip.pth", 0
    assert str(model_zoo.find_weights("glip_t")) == "/cache/glip.pth" and not hub.asked
    monkeypatch.setenv("GLIP_WEIGHTS", f"{tmp_path / 'none'}{os.pathsep}{tmp_path}")
    assert str(model_zoo.find_weights("glip_t")) == "/cache/glip.pth"
    (tmp_path / FILE).write_bytes(b"x")
    assert model_zoo.find_weights("glip_t") == tmp_path / FILE


def test_without_network_and_file_the_message_tells_both_ways():
    with pytest.raises(CheckpointError) as caught:
        model_zoo.find_weights("glip_l")
    text = str(caught.value)
    url = "https://huggingface.co/GLIPModel/GLIP/resolve/main/glip_large_model.pth"
    assert f"fetch {url}" in text and "GLIP_WEIGHTS (not set)" in text
    assert "(The hub cannot be reached)" in text and "repeat this with a network" in text


def test_a_predictor_with_the_official_weights(tmp_path, monkeypatch):
    expected = tiny_model(seed=1)
    torch.save({"model": official_state(expected.state_dict(), module=True)}, tmp_path / "o.pth")
    tiny = model_zoo.PublishedModel("tests/support/tiny_detect.py", "o.pth")
    monkeypatch.setitem(model_zoo._MODELS, "tiny", tiny)
    monkeypatch.setenv("GLIP_WEIGHTS", str(tmp_path))
    predictor = model_zoo.get("tiny", device="cpu", batch_size=2)
    assert predictor.batch_size == 2 and not predictor.model.training
    own = predictor.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in expected.state_dict().items())
