import importlib
import sys

import pytest

from glipv2_d2.renamed import RENAMED


@pytest.mark.parametrize("old", RENAMED)
def test_moved_modules_are_found_under_their_old_names(old, monkeypatch):
    monkeypatch.delitem(sys.modules, f"glipv2_d2.{old}", raising=False)
    with pytest.warns(FutureWarning, match="is called glipv2_d2"):
        module = importlib.import_module(f"glipv2_d2.{old}")
    assert module is importlib.import_module(f"glipv2_d2.{RENAMED[old]}")


def test_pickles_and_configs_of_the_old_tree_mean_the_same_class(monkeypatch):
    monkeypatch.delitem(sys.modules, "glipv2_d2.structures.prompt", raising=False)
    with pytest.warns(FutureWarning):
        old = importlib.import_module("glipv2_d2.structures.prompt")
    from glipv2_d2 import Prompt

    assert old.Prompt is Prompt


def test_what_never_was_there_is_still_missing():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("glipv2_d2.structures_of_something")
