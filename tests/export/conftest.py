"""A model small enough to be traced in seconds, and its export.

Tracing and reading a program are what takes time here: the tests share what they can, the folders
of exports between pytest-xdist's workers, too.
"""

import os
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.export import ExportedGLIP, export_glip
from tests.support.exported_model import INFERENCE, small_model, telling_model


@pytest.fixture(scope="session")
def source_model():
    return small_model()


@pytest.fixture(scope="session")
def program(exported):
    """The model's image path, traced."""
    return torch.export.load(exported / "image.pt2")


@pytest.fixture
def traced(program, monkeypatch):
    """Within it, the image path of whatever model is `program`."""
    monkeypatch.setattr("glipv2_d2.export.graphs.export_image_path", lambda model: program)


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """A folder for exports, which are written once."""
    folder: Path = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def written(model, name):
        with FileLock(folder / f"{name}.lock"):
            if not (folder / name).is_dir():
                export_glip(model, folder / name, inference=INFERENCE)
        return folder / name

    return written


@pytest.fixture(scope="session")
def exported(source_model, exports):
    """Folder of the model's export with torch.export."""
    return exports(source_model, "exported_tiny")


@pytest.fixture(scope="session")
def loaded(exported):
    """The model as it comes out of the files."""
    return ExportedGLIP(exported)


@pytest.fixture(scope="session")
def telling():
    """A model that gives masks, answers questions and writes captions."""
    return telling_model()


@pytest.fixture(scope="session")
def mask_program(exported_telling):
    """Its mask path, traced."""
    return torch.export.load(exported_telling / "mask.pt2")


@pytest.fixture(scope="session")
def exported_telling(telling, exports):
    """Folder of its export."""
    return exports(telling, "exported_telling")


@pytest.fixture(scope="session")
def loaded_telling(exported_telling):
    """It as it comes out of the files."""
    return ExportedGLIP(exported_telling)


@pytest.fixture(scope="session")
def source_predictor(source_model):
    return GroundingPredictor(source_model, **INFERENCE)


@pytest.fixture
def image_read(loaded, monkeypatch):
    """Within it, a file with the image path is not read again."""
    graph = loaded.neck.graph
    monkeypatch.setattr("glipv2_d2.export.runtime._torch_graph", lambda path, device: graph)
