"""Saved Q-networks of the usual frameworks, read offline into one plain torch form."""

from rlwatch.checkpoints.files import placed_files
from rlwatch.checkpoints.loading import Checkpoint, load
from rlwatch.checkpoints.steps import Placed, for_log

__all__ = ["Checkpoint", "Placed", "for_log", "load", "placed_files"]
