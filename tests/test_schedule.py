"""The budget, on a clock that the test turns."""

import math
from itertools import pairwise

import pytest

from rlwatch.monitor.schedule import Schedule, is_sparse


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(schedule, clock, *, steps, price, first, seconds_per_step=0.01):
    """Every step of a training; returns the steps at which a checkpoint was made."""
    made = []
    for step in range(steps):
        clock.now += seconds_per_step
        if schedule.due(step):
            cost = price if made else first
            clock.now += cost
            schedule.pay(step, price)
            schedule.pay(step, cost - price, recurring=False)
            made.append(step)
    return made


def test_the_first_step_is_due():
    assert Schedule().due(0)


@pytest.mark.parametrize("budget", [0.01, 0.03])
def test_with_a_known_length_checkpoints_stand_evenly_and_keep_to_the_budget(budget):
    clock = Clock()
    schedule = Schedule(budget=budget, total_steps=40_000, clock=clock)
    made = run(schedule, clock, steps=40_000, price=0.3, first=2.0)
    gaps = [late - early for early, late in pairwise(made[1:])]
    assert schedule.fraction <= budget * 1.02
    assert len(made) >= 0.8 * (budget * 400 - 2) / 0.3
    assert max(gaps) < 2 * min(gaps)


def test_with_an_unknown_length_the_budget_is_never_passed_after_the_first():
    clock = Clock()
    schedule = Schedule(budget=0.01, clock=clock)
    made = run(schedule, clock, steps=40_000, price=0.3, first=1.0)
    assert len(made) > 5
    assert schedule.fraction <= 0.0101


def test_a_fixed_distance_overrides_the_budget():
    clock = Clock()
    assert run(Schedule(every=300, clock=clock), clock, steps=1000, price=5.0, first=5.0) == [0, 300, 600, 900]


@pytest.mark.parametrize("settings", [{"every": 300}, {"budget": 0.1}, {"budget": 0.1, "total_steps": 10_000}])
def test_most_calls_pass_unseen_and_no_checkpoint_is_late_by_more_than_a_hundredth(settings):
    made, looks = {}, []
    for pausing in (False, True):
        clock = Clock()
        schedule, made[pausing] = Schedule(clock=clock, **settings), []
        for step in range(10_000):
            clock.now += 0.01
            if schedule.pauses(step):
                continue
            looks += [step] if pausing else []
            if schedule.due(step):
                schedule.pay(step, 1.0)
                made[pausing].append(step)
            elif pausing:
                schedule.pause()
    late = [after - due for after, due in zip(made[True], made[False], strict=False)]
    assert len(late) >= len(made[False]) - 1 > 5  # the last one may be due at the end
    assert max(late) <= 0.01 * 10_000
    assert len(looks) < 1500


def test_a_step_that_falls_is_seen_in_a_pause_and_so_is_every_one_after_it():
    schedule = Schedule(every=300)
    schedule.pay(1000, 1.0)
    schedule.pause()
    assert [schedule.pauses(step) for step in (999, 1000, 1299, 1300)] == [False, True, True, False]
    schedule.wake()
    assert not schedule.pauses(1001)


def test_a_clock_that_stands_still_or_runs_backwards_does_no_harm():
    clock = Clock()
    schedule = Schedule(clock=clock)
    schedule.pay(0, 1.0)
    clock.now = -100.0
    assert not schedule.due(10)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"budget": 0.0}, "0.01 = 1 %"),
        ({"every": 0}, "leave it out"),
        ({"total_steps": 0}, "got 0: leave it out"),
        ({"total_steps": -5}, "got -5: leave it out"),
    ],
)
def test_settings_out_of_range_are_refused_with_a_remedy(settings, remedy):
    with pytest.raises(ValueError, match=remedy):
        Schedule(**settings)


def test_beyond_the_length_that_was_told_the_budget_alone_rules():
    clock = Clock()
    schedule = Schedule(budget=0.05, total_steps=1000, clock=clock)
    made = run(schedule, clock, steps=20_000, price=0.1, first=0.2)
    assert sum(step > 1000 for step in made) > 10
    assert max(late - early for early, late in pairwise(step for step in made if step > 1000)) < 1000
    assert schedule.fraction <= 0.0501


def test_of_what_fills_the_log_the_gaps_grow_with_the_count_of_checkpoints():
    kept = [index for index in range(4000) if is_sparse(index, 16)]
    assert kept[:16] == list(range(16))
    assert len(kept) == pytest.approx(16 * (1 + math.log(4000 / 16)), abs=2)
    assert all(late - early <= late / 16 + 1 for early, late in pairwise(kept))
