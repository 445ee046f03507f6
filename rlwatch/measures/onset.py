"""Since when the agent looks at an object, and the sentence that says so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlwatch.measures.relevance import ObjectRelevance

VERBS = {"greedy": ("looks at", "looked at"), "contrast": ("chooses by", "chose by")}


@dataclass(frozen=True)
class Spell:
    """A stretch of checkpoints in which an object's lift stands above its baseline.

    `start`, `end`: indices of its first checkpoint (the onset) and of the first after it; `end` is None while it lasts.
    """

    start: int
    end: int | None


def threshold(untrained: ObjectRelevance, *, ratio: float = 2.0) -> float:
    """The lift that counts as looking: `ratio` times the untrained upper bound or chance (1), whichever is larger.

    Lapuschkin et al. 2019 read onsets off the curve and name no level; twice chance is where their own curves leave the
    noise of the first epochs (ball at most 1.36, paddle 0.74).
    """
    return ratio * max(bound for bound in (1.0, untrained.lift, untrained.high) if not math.isnan(bound))


def spells(history: Sequence[ObjectRelevance], level: float, *, hold: int = 2) -> tuple[Spell, ...]:
    """The stretches of checkpoints in which the whole interval stays above `level`; NaN counts as below.

    A change counts once `hold` checkpoints in a row agree, and is dated to the first of them: one lucky checkpoint is
    no onset and one unlucky one is no end.
    """
    found: list[Spell] = []
    looking, agreeing = False, 0
    for index, measured in enumerate(history):
        agreeing = agreeing + 1 if (measured.low > level) != looking else 0
        if agreeing < hold:
            continue
        first = index - hold + 1
        found = [*found[:-1], Spell(found[-1].start, first)] if looking else [*found, Spell(first, None)]
        looking, agreeing = not looking, 0
    return tuple(found)


def sentence(
    name: str,
    target: str,
    spell: Spell,
    steps: Sequence[int],
    history: Sequence[ObjectRelevance],
    untrained: ObjectRelevance,
) -> str:
    """A spell in words: "from step 18,000 the agent looks at the ball: lift 6.3 [5.1, 7.4], untrained 0.7, now 9.8".

    What it ended for stands behind the newest lift: its interval, whose lower end has fallen.
    """
    present, past = VERBS.get(target, (f"rests ({target}) on", f"rested ({target}) on"))
    start, now = history[spell.start], history[-1]
    until = "" if spell.end is None else f" to {steps[spell.end]:,}"
    between = "" if spell.end is None or math.isnan(now.low) else f" [{now.low:.1f}, {now.high:.1f}]"
    return (
        f"from step {steps[spell.start]:,}{until} the agent {present if spell.end is None else past} the {name}: "
        f"lift {start.lift:.1f} [{start.low:.1f}, {start.high:.1f}], untrained {untrained.lift:.1f}, "
        f"now {now.lift:.1f}{between}"
    )
