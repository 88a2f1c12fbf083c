import importlib
import sys

import pytest

from glipv2_d2.renamed import MOVED_NAMES, RENAMED


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


@pytest.mark.parametrize("package", MOVED_NAMES)
def test_moved_names_are_found_in_their_old_packages(package):
    module = importlib.import_module(f"glipv2_d2.{package}")
    for name, new in MOVED_NAMES[package].items():
        with pytest.warns(FutureWarning, match=f"{name} is in glipv2_d2.{new} now"):
            found = getattr(module, name)
        assert found is getattr(importlib.import_module(f"glipv2_d2.{new}"), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_this_name'"):
        module.nothing_of_this_name  # noqa: B018
