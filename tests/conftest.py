"""What every test shares."""

import io
import os
from contextlib import redirect_stdout

import pytest
import torch
from jaxtyping import config

from rlwatch.cli import main

pytest_plugins = [f"tests.fixtures.{name}" for name in ("attached", "tab", "log_folders", "recorded")]


def pytest_collection_modifyitems(items):
    """Marks the tests that need a browser, so that they can be left out where there is none: `-m "not browser"`."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tests run side by side, a process per core: more threads would only fight for the cores."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that they start


@pytest.fixture
def types_unchecked():
    """Types go unchecked, as for a user: what the code itself says of a wrong one is under test."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


class Terminal(io.StringIO):
    """What is printed at a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def at_terminal(monkeypatch):
    """What a command prints at a terminal of 80 columns without colours."""
    for name, value in (("COLUMNS", "80"), ("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)

    def printed(*arguments):
        with redirect_stdout(Terminal()) as output:
            assert main([str(one) for one in arguments]) == 0
        return output.getvalue()

    return printed
