"""Modeling knows no file and no format of weights; the layer above registers what it asks for."""

import re
from pathlib import Path

import glipv2_d2.modeling
from glipv2_d2.modeling.weights import WEIGHTS_REGISTRY

FOLDER = Path(glipv2_d2.modeling.__file__).parent
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(FOLDER.rglob("*.py"))}


def test_modeling_imports_nothing_of_checkpoint():
    imported = re.compile(r"^\s*(from|import) (\.+|glipv2_d2\.)checkpoint\b", re.MULTILINE)
    assert SOURCES and not [path.name for path, text in SOURCES.items() if imported.search(text)]


def test_what_modeling_asks_for_is_registered_and_nothing_else():
    used = {name for text in SOURCES.values()
            for name in re.findall(r'WEIGHTS_REGISTRY\.get\("(\w+)"\)', text)}  # fmt: skip
    assert used == {name for name, _ in WEIGHTS_REGISTRY}
    assert all(f"`{name}`" in glipv2_d2.modeling.weights.__doc__ for name in used)
