"""How the program loads, and how it ends."""

import gc
import subprocess
import sys

import pytest
import torch

from rlwatch.loading import loaded
from tests.fixtures.saved import nature

ENDED = """
import sys, types
from rlwatch.__main__ import run

class Kept:
    def __init__(self):
        self.itself = self
    def __del__(self):
        print("searched for")

kept = Kept()
sys.modules["rlwatch.cli"] = types.SimpleNamespace(main=lambda: 0)
run()
del kept
"""


@pytest.mark.parametrize("before", [True, False])
def test_nobody_looks_for_garbage_while_a_module_loads_and_then_as_before(tmp_path, monkeypatch, before):
    (tmp_path / "takes_long.py").write_text("import gc\nlooked = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    if not before:
        gc.disable()
    try:
        module = loaded("takes_long")
        after = gc.isenabled()
    finally:
        gc.enable()
        sys.modules.pop("takes_long", None)
    assert not module.looked
    assert after == before


def test_a_module_that_cannot_load_leaves_the_garbage_collected():
    with pytest.raises(ModuleNotFoundError):
        loaded("rlwatch.no_such_module")
    assert gc.isenabled()


def test_the_program_searches_no_garbage_at_its_end():
    assert subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, check=True).stdout == ""


def test_the_command_line_loads_neither_torch_nor_the_statistics_of_other_commands():
    told = "import sys, rlwatch.cli; print(sorted({'torch', 'scipy.stats', 'sklearn', 'cv2'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_reading_and_explaining_a_checkpoint_load_neither_scipy_nor_sympy(tmp_path):
    torch.save({"model": nature().state_dict(), "game": "breakout"}, tmp_path / "x.pt")
    told = (
        "import sys; from rlwatch.offline import explain_checkpoints; "
        "reports = list(explain_checkpoints([sys.argv[1]])); "
        "print(len(reports), sorted({'scipy', 'sympy', 'torch._dynamo'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", told, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1 []\n"
