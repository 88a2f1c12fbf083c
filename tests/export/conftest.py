"""A model small enough to be traced in seconds, and its export.

Tracing and reading a program are what takes time here: the tests share what they can.
"""

import pytest

from glipv2_d2.engine import GroundingPredictor
from glipv2_d2.export import ExportedGLIP, export_glip
from glipv2_d2.export.graphs import export_image_path, export_mask_path
from tests.support.exported_model import INFERENCE, small_model, telling_model


@pytest.fixture(scope="session")
def source_model():
    return small_model(**{"neck.offset_rule": "raw_memory"})


@pytest.fixture(scope="session")
def program(source_model):
    """The model's image path, traced."""
    return export_image_path(source_model)


@pytest.fixture
def traced(program, monkeypatch):
    """Within it, the image path of whatever model is `program`."""
    monkeypatch.setattr("glipv2_d2.export.graphs.export_image_path", lambda model: program)


@pytest.fixture(scope="session")
def exported(source_model, program, tmp_path_factory):
    """Folder of the model's export with torch.export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glipv2_d2.export.graphs.export_image_path", lambda model: program)
        return export_glip(
            source_model, tmp_path_factory.mktemp("export") / "tiny", inference=INFERENCE
        )


@pytest.fixture(scope="session")
def loaded(exported):
    """The model as it comes out of the files."""
    return ExportedGLIP(exported)


@pytest.fixture(scope="session")
def telling():
    """A model that gives masks, answers questions and writes captions."""
    return telling_model()


@pytest.fixture(scope="session")
def mask_program(telling):
    """Its mask path, traced."""
    return export_mask_path(telling)


@pytest.fixture(scope="session")
def exported_telling(telling, mask_program, tmp_path_factory):
    """Folder of its export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("glipv2_d2.export.graphs.export_mask_path", lambda model: mask_program)
        folder = tmp_path_factory.mktemp("export") / "telling"
        return export_glip(telling, folder, inference=INFERENCE)


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
