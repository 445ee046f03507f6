"""Saved Q-networks of the usual frameworks, read offline into one plain torch form."""

from rlwatch.checkpoints.files import SUFFIXES, find
from rlwatch.checkpoints.loading import Checkpoint, load

__all__ = ["SUFFIXES", "Checkpoint", "find", "load"]
