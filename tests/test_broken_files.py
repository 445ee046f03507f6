"""Whole checkpoint files that a broken disk has changed somewhere: refused with a reason, or read as numbers."""

import random
import resource
import subprocess
import sys

import torch

from rlwatch.checkpoints import load
from tests.test_untrusted import WHOLE

FUZZED = 200
MEGABYTES = 400


def fuzzed(data, generator):
    """The file with a few bytes changed, a stretch moved, doubled or zeroed, or its end cut."""
    changed = bytearray(data)
    start = generator.randrange(len(data))
    length = generator.randrange(1, 200)
    way = generator.randrange(5)
    if way == 0:
        for _ in range(generator.randrange(1, 20)):
            changed[generator.randrange(len(data))] = generator.randrange(256)
    elif way == 1:
        changed[start : start + length] = bytes(len(changed[start : start + length]))
    elif way == 2:
        changed[start:start] = changed[start : start + length]
    elif way == 3:
        del changed[start : start + length]
    else:
        for _ in range(5):  # near the end, where archives keep their directory
            changed[-generator.randrange(1, 400)] = generator.randrange(256)
    return bytes(changed)


FUZZ = """
import sys, tests.test_broken_files as broken
broken.fuzz(sys.argv[1])
"""


def fuzz(folder):
    """Reads FUZZED broken files; prints how many were refused and how many megabytes that took."""
    generator, refusals = random.Random(0), 0  # noqa: S311 - to break files
    whole = {name: write() for name, write in WHOLE.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(FUZZED):
        name = list(whole)[number % len(whole)]
        path = f"{folder}/{number}-{name}"
        with open(path, "wb") as file:  # noqa: PTH123 - short
            file.write(fuzzed(whole[name], generator))
        try:
            load(path).network(torch.zeros(1, 4, 84, 84))  # numbers that changed are numbers still
        except ValueError as error:
            refusals += path in str(error) or sys.exit(f"{path} is not told: {error}")
    print(refusals, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


def test_two_hundred_broken_files_are_refused_or_give_numbers_within_bounded_memory(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", FUZZ, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    refusals, megabytes = map(int, ended.stdout.split())
    assert refusals > FUZZED // 2
    assert megabytes < MEGABYTES
    assert len(list(tmp_path.iterdir())) == FUZZED
