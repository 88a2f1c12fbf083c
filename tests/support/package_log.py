"""The package's logger, as commands set it up and tests look at it."""

import logging
from contextlib import contextmanager

import pytest
from detectron2.utils.logger import setup_logger

from glipv2_d2.engine import setup


@contextmanager
def package_log_put_back():
    """Commands give the package's logger handlers of their own, which end with the context.

    `setup_logger` also keeps the records from the root logger, where caplog listens.
    """
    log = logging.getLogger("glipv2_d2")
    before = list(log.handlers), log.level

    def audible(*args, **kwargs):
        setup_logger(*args, **kwargs)
        log.propagate = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "setup_logger", audible)
        try:
            yield
        finally:
            log.handlers[:], log.level, log.propagate = *before, True
            setup_logger.cache_clear()
