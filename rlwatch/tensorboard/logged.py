"""What a run's event files hold already."""

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

TAG = "rlwatch/q/greedy"
"""A scalar that every checkpoint has."""


def logged_steps(folder: Path) -> set[int]:
    """The steps of the checkpoints that a run's folder holds, up to where a file is torn; none where there is none."""
    steps: set[int] = set()
    for file in folder.glob("*tfevents*"):
        for event in LegacyEventFileLoader(str(file)).Load():
            if any(value.tag == TAG for value in event.summary.value):
                steps.add(event.step)
    return steps
