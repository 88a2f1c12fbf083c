import numpy as np
import pytest

from glipv2_d2.errors import MissingPackageError
from glipv2_d2.scenes import photos
from glipv2_d2.scenes.build import build_scenes
from glipv2_d2.scenes.photos import EVAL_PHOTOS, TRAIN_PHOTOS, random_background


def test_backgrounds_of_training_and_evaluation_are_disjoint():
    assert not set(TRAIN_PHOTOS) & set(EVAL_PHOTOS)
    rng = np.random.default_rng(0)
    for chosen in (TRAIN_PHOTOS, EVAL_PHOTOS):
        background = random_background(rng, chosen, 64)
        assert background.shape == (64, 64, 3) and background.dtype == np.float32
        assert 0.0 <= background.min() and background.max() <= 1.0


def test_missing_photographs_name_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(photos.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install scikit-image"):
        build_scenes(tmp_path / "scenes", workers=1)
    monkeypatch.undo()
    with pytest.raises(MissingPackageError, match="--force-reinstall scikit-learn"):
        photos.photo_path("sklearn", "datasets/images/none.jpg")
