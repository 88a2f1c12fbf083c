"""A few rendered scenes for the tools that are run on them."""

import pytest

from glipv2_d2.scenes.build import build_scenes
from tests.support.benchmark_tree import catalogs_at


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    build_scenes(root / "scenes", size=64, train=1, val=4, novel=1, workers=1)
    return root


@pytest.fixture(scope="module")
def scenes(scenes_root):
    """Four images of val and one of novel, in the catalogs."""
    with catalogs_at(scenes_root):
        yield scenes_root
