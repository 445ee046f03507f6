"""What every test shares."""

import pytest
import torch

pytest_plugins = ["tests.fixtures.tab", "tests.fixtures.log_folders"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tests run side by side, a process per core: more threads would only fight for the cores."""
    torch.set_num_threads(1)
