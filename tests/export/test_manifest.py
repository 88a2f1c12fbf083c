"""The settings around the graphs: written whole, read with one error."""

import json

import pytest
import torch

from glipv2_d2.errors import ExportError
from glipv2_d2.export import ExportedGLIP
from tests.support.exported_model import INFERENCE


def test_the_manifest_says_what_a_program_needs(exported):
    manifest = json.loads((exported / "export.json").read_text())
    assert manifest["strides"] == [8, 16, 32]
    assert manifest["cell_anchors"][0] == [-32, -32, 32, 32]
    assert manifest["input_format"] == "BGR" and manifest["size_divisibility"] == 32
    assert manifest["inference"] == INFERENCE and manifest["words"] == "hidden"
    assert manifest["notes"]["torch"] == torch.__version__


def test_folders_that_are_no_export(exported, tmp_path):
    with pytest.raises(ExportError, match=r"no export\.json"):
        ExportedGLIP(tmp_path)
    manifest = json.loads((exported / "export.json").read_text())
    for change, message in (
        ({"version": 2}, "of version 2"),
        ({"color": "blue"}, "is damaged"),
        ({}, r"image\.pt2' of the export is missing"),
    ):
        (tmp_path / "export.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ExportError, match=message):
            ExportedGLIP(tmp_path)
    (tmp_path / "export.json").write_text('{"version":')
    with pytest.raises(ExportError, match="is damaged"):
        ExportedGLIP(tmp_path)
