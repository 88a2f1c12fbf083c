"""The package as a wheel; whatever index and proxies this machine has, nothing is downloaded."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.support import ROOT

OFFLINE = {**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def pip(*arguments):
    command = [sys.executable, "-m", "pip", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=OFFLINE)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built of a copy, so that no build folder is left in the clone."""
    pytest.importorskip("setuptools")
    source = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("glip_commands", "glipv2_d2", "configs", "weights"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    (path,) = target.glob("glipv2_d2-*.whl")
    return path
