"""What a monitor does with a checkpoint that has come back: it is written, told of and paid for."""

import time

from rlwatch.monitor.faults import Faults
from rlwatch.monitor.logbook import Outcome, write
from rlwatch.monitor.schedule import Schedule
from rlwatch.report import Finding
from rlwatch.tensorboard.writer import RunWriter


class Ledger:
    """Books what became of a monitor's jobs.

    `writer`: of the pages that come back unwritten, None where there are none. `made`: how many reports there are.
    `ended`: since when nothing could be explained, and why; None while something can.
    """

    def __init__(self, writer: RunWriter | None, faults: Faults, schedule: Schedule) -> None:
        self._writer, self._faults, self._schedule = writer, faults, schedule
        self.made = 0
        self.ended: Finding | None = None

    def book(self, outcome: Outcome) -> None:
        """Write what is to be written, tell what went wrong, and pay."""
        began = time.perf_counter()
        for fault in outcome.faults:
            self._faults.tell(fault)
        if outcome.page is not None and self._writer is not None:
            with self._faults.surviving(f"step {outcome.job.step:,}"):
                write(self._writer, outcome.page)
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
        if self._writer is not None:
            self._writer.close()
