"""When a checkpoint is due, so that the monitor keeps to its part of the wall clock, and its log within bounds."""

import math
import numbers
import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import SupportsFloat, SupportsIndex

LATE = 0.01
"""Part of the time between two checkpoints by which one may be late, so that most calls need no look at the budget."""
LARGEST = 2**63
"""Steps that an event file has room for."""
USUAL = {"budget": "0.01", "total_steps": "1_000_000", "every": "10_000"}
"""Settings, with what may be told as such."""

Step = SupportsIndex | SupportsFloat
"""An agent step, as a training counts it: an int, NumPy's, a tensor of one element, a float without a fraction."""


@dataclass
class Schedule:
    """Spends `budget`, a part of the training's wall clock, evenly over the training.

    `total_steps`: how long the training will be, where it is known: then the first and the last checkpoint are paid for
    in advance and the others stand at equal distances. Where it is not, and beyond it, a checkpoint is due when the
    time spent and the next one's price fit the budget of the time gone by. `every`: a fixed distance in steps instead.
    `shortest`: no two checkpoints stand closer than this part of the training. `rest`: the part of the budget that
    each costly part may take between the first and the last checkpoint, which always get them. `spent`: the seconds
    that were used so far. `last_step`: the newest checkpoint's, at first the log's; -infinity while there is none.

    Raises: TypeError, ValueError when a setting is no number that can be.
    """

    budget: float = 0.01
    total_steps: int | None = None
    every: int | None = None
    shortest: float = 0.02
    rest: Mapping[str, float] = field(default_factory=lambda: {"validity": 0.4, "actions": 0.1})
    clock: Callable[[], float] = time.monotonic
    spent: float = field(default=0.0, init=False)
    last_step: float = field(default=-math.inf, init=False)
    _began: float = field(init=False)
    _first_step: int | None = field(default=None, init=False)
    _quiet: tuple[float, float] = field(default=(-math.inf, -math.inf), init=False)
    _price: float = field(default=0.0, init=False)
    _spent_on: dict[str, float] = field(default_factory=dict, init=False)
    _prices: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for name, usual in USUAL.items():
            told = getattr(self, name)
            if not (told is None or isinstance(told, numbers.Real)) or (told is None and name == "budget"):
                got = f"{type(told).__name__} {told!r:.40}"
                raise TypeError(f"{name} must be a number, got {got}: such as {name}={usual}")
        for name in ("total_steps", "every"):
            if getattr(self, name) is not None and not float(getattr(self, name)).is_integer():
                got = getattr(self, name)
                raise ValueError(f"{name} must be a whole number of steps, got {got}: such as {name}={USUAL[name]}")
        if not 0 < self.budget <= 1:
            raise ValueError(
                f"budget must lie in (0, 1], got {self.budget}: it is a part of the wall clock, 0.01 = 1 %"
            )
        if self.total_steps is not None and self.total_steps < 1:
            raise ValueError(
                f"total_steps must be at least 1, got {self.total_steps}: leave it out where the length is not known"
            )
        if self.every is not None and self.every < 1:
            raise ValueError(f"every must be at least 1 step, got {self.every}: leave it out to go by the budget")
        self._began = self.clock()

    @property
    def age(self) -> float:
        """The seconds since the monitor was attached."""
        return self.clock() - self._began

    @property
    def fraction(self) -> float:
        """The part of the wall clock that the monitor has used since it was attached."""
        return self.spent / max(self.age, 1e-9)

    def pay(self, step: int, seconds: float, *, recurring: bool = True) -> None:
        """Book a checkpoint's cost; what does not recur (the baseline) does not raise the price of the next one."""
        self.spent += seconds
        if self._first_step is None:
            self._first_step = step
        self.last_step = step
        if recurring:
            self._price = seconds

    def pay_costly(self, parts: Mapping[str, float]) -> None:
        """Book the seconds that the costly parts of a checkpoint took, by name; those that it did not get are left out.

        What a part took last is taken for its price.
        """
        self.spent += sum(parts.values())
        self._prices |= parts
        self._spent_on |= {part: self._spent_on.get(part, 0.0) + seconds for part, seconds in parts.items()}

    def room(self, part: str) -> bool:
        """Whether a costly part fits in now, and again at the last checkpoint."""
        wanted = self._spent_on.get(part, 0.0) + 2 * self._prices.get(part, 0.0)
        return wanted <= self.rest[part] * self.budget * self.age

    @property
    def _costly_now(self) -> float:
        """Seconds of the costly parts that fit in now."""
        return sum((price for part, price in self._prices.items() if self.room(part)), 0.0)

    @property
    def _last_price(self) -> float:
        """Seconds of the costly parts of the last checkpoint."""
        return sum(self._prices.values(), 0.0)

    def pause(self) -> None:
        """Let calls pass unseen until the next one may be due: by steps, where the distance is fixed, else by time."""
        if self.every is not None:
            self._quiet = self.last_step + self.every, math.inf
        else:
            self._quiet = math.inf, self.clock() + LATE * self._price / self.budget

    def wake(self) -> None:
        """Look at each call again."""
        self._quiet = -math.inf, -math.inf

    def pauses(self, step: int) -> bool:
        """Whether nothing needs to be looked at: a call in the midst of a training finds nothing in the caches."""
        before, until = self._quiet
        return self.last_step <= step < before and self.clock() < until

    def due(self, step: int) -> bool:
        """Whether a checkpoint should be made at this step; the first one, behind what the log has (`last_step`)."""
        if self._first_step is None:
            return step > self.last_step
        gone = step - self.last_step
        if self.every is not None:
            return gone >= self.every
        if self.total_steps is None or step > self.total_steps:
            left = self.budget * self.age - self.spent - self._price - self._last_price
            return gone > 0 and left >= 0 and left >= self._costly_now
        return gone >= self.shortest * self.total_steps and gone >= self._distance(step, self._first_step)

    def _distance(self, step: int, first_step: int) -> float:
        """Steps between checkpoints, such that those still to come just use up what is left of the budget."""
        left = (self.total_steps or 0) - step
        done = step - first_step
        if left <= 0 or done <= 0:
            return math.inf
        expected = self.age * (left + done) / done
        left_over = self.budget * expected - self.spent - self._price - self._last_price
        affordable = left_over / max(self._price, 1e-9)
        return left / affordable if affordable > 0 else math.inf


def is_sparse(index: int, full: int) -> bool:
    """Whether the checkpoint of this index gets a part that fills the log: each of the first `full`, then ever fewer.

    Of n checkpoints about `full` · (1 + ln(n / full)) get it, and the gaps between them grow with n.
    """

    def count(below: int) -> float:
        return float(below) if below <= full else full * (1 + math.log(below / full))

    return math.floor(count(index + 1)) > math.floor(count(index))


def whole_step(step: Step) -> int:
    """The step as a plain integer.

    Raises: TypeError when it is no whole number; ValueError when a tensor or array holds several, or no log has room
        for it.
    """
    number = step.item() if hasattr(step, "item") else step
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    try:
        whole = operator.index(number)  # type: ignore[arg-type]  # what has none is refused
    except TypeError:
        raise TypeError(
            f"a step must be a whole number, got {type(step).__name__}: pass the agent step as an int"
        ) from None
    if abs(whole) >= LARGEST:
        raise ValueError(f"a step must be below 2 ** 63, got {whole}: pass the agent step")
    return whole
