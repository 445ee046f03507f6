"""What goes wrong in the monitor is told, once, and never raised: the training goes on."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

log = logging.getLogger("rlwatch")

_DIGITS = re.compile(r"\d+")
"""What may differ between two faults that are one."""


class Fault(NamedTuple):
    """What went wrong where."""

    where: str
    reason: str


class Faults:
    """Those of one monitor so far."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, fault: Fault) -> None:
        """Log a fault, unless its reason was logged before; nothing is raised."""
        reason = _DIGITS.sub("", fault.reason)
        if reason not in self._told:
            self._told.add(reason)
            with suppress(Exception):  # of a handler of the training's, or of a stderr that it has closed
                log.warning("rlwatch: nothing was logged at %s (%s); training goes on", fault.where, fault.reason)

    @contextmanager
    def surviving(self, where: str) -> Iterator[None]:
        """What fails here is told, and goes no further."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is
            self.tell(Fault(where, f"{type(error).__name__}: {error}"))
