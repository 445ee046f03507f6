"""What a training tells while it goes on: in its log, and on the terminal."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor

SECONDS_BETWEEN_LINES = 15  # without a terminal
POINTS = 400  # of each curve of a run


class Progress:
    """Tells how a training goes: each return as it comes, and POINTS times a run what learning told, and the speed."""

    def __init__(self, agent: Any, watch: Any) -> None:
        self.agent, self.watch = agent, watch
        self.display = Display(agent.step, agent.config.steps)
        self._begin()

    def _begin(self) -> None:
        self.told, self.step, self.time = list[Tensor](), self.agent.step, time.perf_counter()

    def learnt(self, told: Float[Tensor, " 2"]) -> None:
        """Note the loss and the mean Q-value of an update."""
        self.told.append(told)

    def stepped(self, returns: Mapping[int, float]) -> None:
        """Log the mean return of the games that this step ended, and what has been noted once that is due."""
        agent = self.agent
        if returns:
            agent.run.log(agent.step, train_return=float(np.mean(list(returns.values()))))
        if self.told and agent.passed(max(agent.config.steps // POINTS, 1)):
            self._tell(agent)
            self._begin()

    def _tell(self, agent: Any) -> None:
        (loss, q), epsilon = torch.stack(self.told).mean(0).tolist(), agent.epsilon
        speed = (agent.step - self.step) / (time.perf_counter() - self.time)
        agent.run.log(agent.step, train_loss=loss, train_q=q, train_epsilon=epsilon, train_steps_per_second=speed)
        facts = {"steps/s": speed, "return": agent.returns, "ε": epsilon, "loss": loss}
        self.display.update(agent.step, self.watch.finding if self.watch is not None else "", **facts)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.display.bar.stop()


class Display:
    """What the terminal shows: a live bar in a terminal, else a line every tenth of the way or every 15 seconds."""

    def __init__(self, first_step: int, steps: int) -> None:
        self.steps, self.first_step, self.began = steps, first_step, time.monotonic()
        self.printed_step, self.printed_time = first_step, self.began
        console = Console(highlight=False)
        self.bar = Bar(
            BarColumn(20),
            TextColumn("{task.completed:,}/{task.total:,} steps {task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=steps, completed=first_step)
        self.bar.start()

    def update(self, step: int, finding: str, **facts: float) -> None:
        """Show where the training stands."""
        told = [f"{name.replace('_', ' ')} {value:,.4g}" for name, value in facts.items()]
        shown = " · ".join([*told, finding] if finding else told)
        self.bar.update(self.task, completed=step, description=shown)
        now = time.monotonic()
        tenth = step * 10 // self.steps > self.printed_step * 10 // self.steps
        if self.bar.disable and (tenth or now - self.printed_time >= SECONDS_BETWEEN_LINES):
            left = max(self.steps - step, 0) * (now - self.began) / (step - self.first_step)
            print(f"step {step:,}/{self.steps:,} · {left:,.0f} s left · {shown}", flush=True)
            self.printed_step, self.printed_time = step, now
