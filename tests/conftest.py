"""What holds for every test."""

import pytest

from tests.support.package_log import package_log_put_back

# Fixtures that several folders use; each is defined once.
pytest_plugins = [f"tests.support.{kind}_fixtures" for kind in ("data", "model", "wheel")]


@pytest.fixture(autouse=True)
def package_log():
    """See `package_log_put_back`; a fixture of a wider scope that runs a command takes that."""
    with package_log_put_back():
        yield
