"""What holds for every test."""

import os
import shutil
import tempfile
from multiprocessing.util import Finalize

import pytest

from tests.support.package_log import package_log_put_back

# Fixtures that several folders use; each is defined once.
pytest_plugins = [
    f"tests.support.{kind}_fixtures" for kind in ("data", "model", "process", "wheel")
]


def pytest_configure():
    """What tests and the processes that they start put into the temporary folder goes at the end.

    pytest's own folders stay where they were: those of tests that failed are kept. Those of xdist's
    processes stand beside each other: a socket's path may have 107 characters.
    """
    usual = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix="glip_tests_", dir=usual)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    # After multiprocessing has removed what it has there, which is at -100.
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=-1000)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file is run by one process, so that its fixtures are made once; so is `export/`, whose
    files share traced models. (pytest 9.2 takes no notice of the marker `xdist_group`.)"""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid):
            folder = "tests/export/"
            return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)

    return ByFile(config, log)


def pytest_collection_modifyitems(config, items):
    """With several processes files with slow tests come first, so that none ends long after the
    others."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module")
def module_path(request, tmp_path_factory):
    """`tmp_path` for the fixtures of a module: removed after it, unless a test of it failed."""
    failed = request.session.testsfailed
    path = tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])
    yield path
    if request.session.testsfailed == failed:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def package_log():
    """See `package_log_put_back`; a fixture of a wider scope that runs a command takes that."""
    with package_log_put_back():
        yield
