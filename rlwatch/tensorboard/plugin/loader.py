"""How TensorBoard finds the tab. A fault in here would keep TensorBoard itself from starting, so nothing is raised."""

import argparse
import logging

from tensorboard.plugins import base_plugin

log = logging.getLogger("tensorboard")

KEPT = {"rlwatch": 0, "images": 100}
"""Samples a tag that TensorBoard keeps: all of the tab's, and a hundred checkpoints of a clip instead of ten."""


class Loader(base_plugin.TBLoader):
    """Makes the tab, and no tab where that fails."""

    def fix_flags(self, flags: argparse.Namespace) -> None:
        """Keeps more samples than TensorBoard's defaults; what the user has asked for stays."""
        kept = getattr(flags, "samples_per_plugin", None)
        if isinstance(kept, dict):
            for plugin, samples in KEPT.items():
                kept.setdefault(plugin, samples)

    def load(self, context: base_plugin.TBContext) -> base_plugin.TBPlugin | None:
        """The tab, or None where it cannot be had; the log then says why."""
        try:
            from rlwatch.tensorboard.plugin.plugin import Plugin  # noqa: PLC0415 - TensorBoard lives on if this fails

            return Plugin(context)
        except Exception:
            log.exception("the RLWATCH tab is left out: reinstall rlwatch (pip install --force-reinstall rlwatch)")
            return None
