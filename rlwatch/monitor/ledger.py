"""What a monitor does with a checkpoint that has come back: it is written, told of and paid for."""

import time
from pathlib import Path

from rlwatch.monitor.faults import Faults
from rlwatch.monitor.logbook import Outcome, write
from rlwatch.monitor.schedule import Schedule
from rlwatch.report import Finding
from rlwatch.tensorboard.writer import RunWriter


class Ledger:
    """Books what became of a monitor's jobs.

    `pages`: the writer of those that come back unwritten, or the folder that it opens in with the first of them; None
    where there are none. `made`: how many reports there are. `ended`: since when nothing could be explained, and why;
    None while something can.
    """

    def __init__(self, pages: RunWriter | Path | None, faults: Faults, schedule: Schedule) -> None:
        self._pages, self._faults, self._schedule = pages, faults, schedule
        self.made = 0
        self.ended: Finding | None = None

    def book(self, outcome: Outcome) -> None:
        """Write what is to be written, tell what went wrong, and pay."""
        began = time.perf_counter()
        for fault in outcome.faults:
            self._faults.tell(fault)
        if outcome.page is not None and self._pages is not None:
            with self._faults.surviving(f"step {outcome.job.step:,}"):
                self._pages = self._pages if isinstance(self._pages, RunWriter) else RunWriter(logdir=self._pages)
                write(self._pages, outcome.page)
        written = time.perf_counter() - began
        self.made += outcome.report is not None
        if outcome.report is not None or outcome.ended is not None:
            self.ended = outcome.ended
        costly = sum(outcome.costly.values())
        self._schedule.pay(outcome.job.step, outcome.seconds - outcome.once - costly + written)
        self._schedule.pay(outcome.job.step, outcome.once, recurring=False)
        self._schedule.pay_costly(outcome.costly)

    def close(self) -> None:
        """Close the log, where pages are written here.

        Raises: OSError when the disk is full or the file is gone.
        """
        if isinstance(self._pages, RunWriter):
            self._pages.close()
