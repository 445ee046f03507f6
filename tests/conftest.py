"""What every test shares."""

import pytest
import torch
from jaxtyping import config

pytest_plugins = ["tests.fixtures.tab", "tests.fixtures.log_folders", "tests.fixtures.recorded"]


def pytest_collection_modifyitems(items):
    """Marks the tests that need a browser, so that they can be left out where there is none: `-m "not browser"`."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tests run side by side, a process per core: more threads would only fight for the cores."""
    torch.set_num_threads(1)


@pytest.fixture
def types_unchecked():
    """Types go unchecked, as for a user: what the code itself says of a wrong one is under test."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
