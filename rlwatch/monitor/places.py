"""Where a monitor's checkpoints are made, here or in a process of its own, and which of the two writes the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from rlwatch.monitor.attaching import warn_of_another
from rlwatch.monitor.comparison import Past
from rlwatch.monitor.examination import Examination
from rlwatch.monitor.logbook import Inline, Logbook
from rlwatch.monitor.worker import Worker
from rlwatch.tensorboard.events import check_folder
from rlwatch.tensorboard.writer import RunWriter


@dataclass(frozen=True)
class Destination:
    """Where to log: a folder or somebody's SummaryWriter; `purge_step`: the step that a resumed training goes on from.

    Raises: ValueError when it is neither or both.
    """

    logdir: Path | None
    writer: SummaryWriter | None
    purge_step: int | None

    def __post_init__(self) -> None:
        if (self.logdir is None) == (self.writer is None):
            given = "neither" if self.logdir is None else "both"
            raise ValueError(f"expected logdir= or writer=, got {given}: pass one")

    @property
    def folder(self) -> str | Path | None:
        """The folder that is logged to, if the writer knows it."""
        return self.logdir or getattr(self.writer, "log_dir", None)

    @property
    def settings(self) -> dict[str, Any]:
        """What RunWriter needs to know beside the writer; its owner purges a SummaryWriter."""
        return {"logdir": self.logdir, "purge_step": self.purge_step if self.writer is None else None}


def opened(
    where: str, examination: Examination, settings: Mapping[str, Any], destination: Destination, before: Past
) -> tuple[Inline | Worker, RunWriter | Path | None]:
    """The place, and the writer of what comes back from it, or where one may open; None where the place writes itself.

    A process of its own cannot write into somebody's SummaryWriter, nor into its own folder once it has died.
    `settings`: those of the examination besides the network. `before`: what the log says of earlier checkpoints.

    Raises: OSError when the folder cannot be written; as RunWriter and Worker do.
    """
    logdir, writer = destination.logdir, destination.writer
    if logdir is not None and destination.purge_step is None:
        warn_of_another(logdir)
    if where == "inline":
        return Inline(Logbook(examination, RunWriter(writer, **destination.settings), before)), None
    settings = {**settings, "probe": examination.probe, "observe": examination.observe}
    if logdir is None:
        pages = RunWriter(writer)
        return Worker(examination.network, settings, None, before), pages
    check_folder(logdir)
    return Worker(examination.network, settings, destination.settings, before), logdir
