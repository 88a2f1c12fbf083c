"""An export stands where weights do, wherever a model is used and not changed."""

import shutil

import pytest
import torch

from glipv2_d2 import model_zoo
from glipv2_d2.checkpoint import build_for_weights, read_checkpoint
from glipv2_d2.config import get_config
from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.engine.exemplars import make_exemplar
from glipv2_d2.errors import CheckpointError, ConfigError, ExportError, UsageError
from glipv2_d2.export import ExportedGLIP
from glipv2_d2.labeling.teacher import fingerprint
from tests.support.exported_model import INFERENCE, NAMES
from tests.support.exported_model import image as made

CONFIG = "demo/scenes.py"  # any: of the model it says nothing


@pytest.fixture
def image():
    return made(90, 130)


def test_the_predictor(exported, loaded, image, monkeypatch):
    predictor = GroundingPredictor.from_config(CONFIG, exported, device="cpu", merge_iou=None)
    assert isinstance(predictor.model, ExportedGLIP)
    assert INFERENCE == {key: getattr(predictor, key) for key in INFERENCE}  # not the config's
    found = predictor(image, NAMES)[0]
    expected = GroundingPredictor(loaded, **INFERENCE)(image, NAMES)[0]
    assert len(found) and torch.equal(found.scores, expected.scores)
    monkeypatch.setattr("glipv2_d2.engine.predictor.load_model", lambda *_: loaded)
    other = GroundingPredictor.from_config(CONFIG, exported, overrides=["inference.min_size=64"])
    assert (other.min_size, other.max_size) == (64, INFERENCE["max_size"])


def test_its_model_is_not_set_again(exported):
    settings = ["inference.min_size=64", "model.chunk_size=3"]
    with pytest.raises(ConfigError, match="is an export.* model.chunk_size=3 has no effect"):
        GroundingPredictor.from_config(CONFIG, exported, overrides=settings)


def test_weights_are_asked_for_where_it_would_be_changed(exported):
    for read in (read_checkpoint, lambda path: build_for_weights(get_config(CONFIG).model, path)):
        with pytest.raises(CheckpointError, match="is an export, .*: give the weights that it was"):
            read(exported)


def test_it_says_its_config(exported, tmp_path):
    with pytest.raises(UsageError, match="does not say of which model it is"):  # made in Python
        model_zoo.find_model(weights=str(exported))
    assert model_zoo.find_model("", "a.py", str(exported)) == ("a.py", str(exported))
    noted = shutil.copytree(exported, tmp_path / "noted")
    about = (noted / "export.json").read_text()
    (noted / "export.json").write_text(about.replace('"notes": {', '"notes": {"config": "b.py", '))
    assert model_zoo.find_model(weights=str(noted)) == ("b.py", str(noted))
    (noted / "export.json").write_text("{")
    with pytest.raises(ExportError, match="export.json' is damaged"):
        model_zoo.find_model(weights=str(noted))


def test_as_a_teacher_it_is_all_of_its_files(exported, tmp_path):
    before = fingerprint(CONFIG, str(exported), [])
    copied = shutil.copytree(exported, tmp_path / exported.name)
    assert fingerprint(CONFIG, str(copied), []) == before
    with open(copied / "image.pt2", "ab") as file:
        file.write(b"x")
    assert fingerprint(CONFIG, str(copied), []) != before


def test_its_contrast_is_for_shortlists_alone(loaded_telling, image):
    predictor = GroundingPredictor(loaded_telling)
    with pytest.raises(ConfigError, match="exemplars are asked with weights, and not with an exp"):
        make_exemplar(predictor, image, [[1, 2, 30, 40]], "x", 0.0, None)
