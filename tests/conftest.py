"""What holds for every test."""

import logging

import pytest
from detectron2.utils.logger import setup_logger

from glipv2_d2.engine import setup

# Fixtures that several folders use; each is defined once.
pytest_plugins = [f"tests.support.{kind}_fixtures" for kind in ("data", "model", "wheel")]


@pytest.fixture(autouse=True)
def package_log(monkeypatch):
    """Commands give the package's logger handlers of their own, which end with the test.

    `setup_logger` also keeps the records from the root logger, where caplog listens.
    """
    log = logging.getLogger("glipv2_d2")
    before = list(log.handlers), log.level

    def audible(*args, **kwargs):
        setup_logger(*args, **kwargs)
        log.propagate = True

    monkeypatch.setattr(setup, "setup_logger", audible)
    yield
    log.handlers[:], log.level, log.propagate = *before, True
    setup_logger.cache_clear()
