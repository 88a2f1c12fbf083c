"""One small rendered data set for the tests of this folder."""

import json

import pytest

from glipv2_d2.scenes.build import build_scenes

COUNTS = {"train": 60, "val": 12, "novel": 36}


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory):
    """Folder of a data set of 60/12/36 images of 96 pixels."""
    root = tmp_path_factory.mktemp("scenes") / "scenes"
    assert build_scenes(root, seed=3, size=96, workers=1, **COUNTS)
    return root


@pytest.fixture(scope="session")
def annotations(scenes_root):
    """{file stem: parsed json} of all annotation files."""
    paths = (scenes_root / "annotations").glob("*.json")
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
