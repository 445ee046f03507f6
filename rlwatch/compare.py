"""Several runs on one page: what the seeds of each variant look at, since when, and what they score."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from rlwatch.measures.onset import spells, threshold
from rlwatch.measures.relevance import ObjectRelevance
from rlwatch.measures.seeds import Band, Median, band, interpolated, median, since_last
from rlwatch.report import without_nan
from rlwatch.tensorboard.runs import EVERY_CHECKPOINT, UNMEASURED, Run, damages, history, logs_of, method_of
from rlwatch.variants import notes_on_names, variants

SCHEMA = 1  # of comparisons as JSON
RETURNS = (
    "eval/return",
    "eval/mean_reward",
    "rollout/ep_rew_mean",
    "charts/episodic_return",
    "train/return",
    "rlwatch/returns/told",
)
"""Where trainers log returns, evaluations before episodes, and last what the monitor was told at its checkpoints."""

FEW = 5
"""Seeds from which an interval over them is taken at its word."""
WHOLE = 0.98
"""Part of its variant's steps from which a run counts as whole: budgets date the last checkpoints a little apart."""


@dataclass(frozen=True, eq=False)
class ComparedObject:
    """An object's lift over the steps of a variant, its untrained lift, and the step of its onset.

    `untrained` is NaN where there was no baseline to stand above: no run has an onset then.
    """

    lift: Band
    untrained: float
    onset: Median


@dataclass(frozen=True, eq=False)
class Variant:
    """Runs that differ by their seeds, on one axis of steps.

    `interval`: what the intervals of the lifts are over: "seeds", or with a single run "episodes" of its probe.
    `seeds`: how many of the runs went that far. `ended`: the last step of each run that ended early. `returns`: None
    where there is no tag of returns that all runs have.
    """

    name: str
    runs: tuple[str, ...]
    interval: str
    steps: Int[np.ndarray, " step"]
    seeds: Int[np.ndarray, " step"]
    ended: Mapping[str, int]
    objects: Mapping[str, ComparedObject]
    returns: Band | None

    def scalars(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Each step with tag to value, for every curve; NaN where nothing was measured."""
        curves = {name: one.lift for name, one in self.objects.items()}
        curves |= {} if self.returns is None else {"returns": self.returns}
        for index, step in enumerate(self.steps.tolist()):
            yield (
                step,
                {
                    f"rlwatch/{family}/{name}": float(column[index])
                    for name, curve in curves.items()
                    for family, column in (
                        ("compare", curve.middle),
                        ("compare_low", curve.low),
                        ("compare_high", curve.high),
                    )
                },
            )


@dataclass(frozen=True, eq=False)
class Comparison:
    """The variants; what was explained, on which game; the tag of the returns, and what a reader must know besides."""

    game: str
    target: str
    returns_tag: str | None
    notes: tuple[str, ...]
    variants: tuple[Variant, ...]

    def as_json(self) -> dict[str, Any]:
        """One JSON object; null where nothing was measured, and for an onset that half of the runs do not have."""
        told = {"schema": SCHEMA, "game": self.game, "target": self.target, "returns_tag": self.returns_tag}
        bodies = {one.name: _variant_json(one) for one in self.variants}
        compared: dict[str, Any] = without_nan({**told, "notes": self.notes, "variants": bodies})
        return compared


@dataclass(frozen=True, eq=False)
class Course:
    """One run's lifts of one object: the steps of its checkpoints, what it has there, and its untrained baseline."""

    steps: Int[np.ndarray, " point"]
    history: tuple[ObjectRelevance, ...]
    untrained: ObjectRelevance

    @property
    def onset(self) -> float:
        """The step from which the lift first stands above its baseline; infinity where it never does."""
        if math.isnan(self.untrained.lift):
            return math.inf
        found = spells(self.history, threshold(self.untrained))
        return float(self.steps[found[0].start]) if found else math.inf

    def values(self, name: str) -> Float[np.ndarray, " point"]:
        """One figure of the history."""
        return np.array([getattr(one, name) for one in self.history], float)


def compare(
    paths: Sequence[str | Path] = (),
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    target: str = "greedy",
    returns: str | None = None,
    seed: int = 0,
) -> Comparison:
    """The runs in these folders, and those that the patterns of `groups` name as a variant, seeds taken together.

    `returns`: the tag of the returns; left out, the first of `RETURNS` that all runs have. `seed`: of the bootstrap.

    Raises: FileNotFoundError when a folder is not there; ValueError when no run was watched in it, when runs are of
    different games or probes, or lack the target or the returns.
    """
    by_name = variants(paths, groups or {})
    runs = [run for some in by_name.values() for run in some]
    if not runs:
        raise ValueError("expected folders of runs, got none: rlwatch compare RUN…, or --group NAME=GLOB")
    _check_alike(runs)
    for run in runs:
        _check_has(run, target, returns)
    tag = returns or next((tag for tag in RETURNS if all(tag in run.scalars for run in runs)), None)
    compared = tuple(_variant(name, some, target, tag, seed) for name, some in by_name.items())
    game = next((str(run.report["game"]) for run in runs if "game" in run.report), "")
    notes = *_notes(by_name, tag), *_notes_on_seeds(compared), *notes_on_names(by_name, groups or {})
    return Comparison(game, target, tag, notes, compared)


def _check_alike(runs: Sequence[Run]) -> None:
    for word in ("game", "probe"):
        values = {str(run.report[word]): run.folder for run in runs if word in run.report}
        if len(values) > 1:
            (one, first), (other, second), *_ = values.items()
            raise ValueError(
                f"expected runs of one {word}, got {one[:12]} in {first} and {other[:12]} in {second}: lifts compare "
                "on the same frames only; `rlwatch explain CHECKPOINT… --probe FILE --logdir DIR` explains again"
            )


def _check_has(run: Run, target: str, returns: str | None) -> None:
    known = sorted({tag.split("/")[2] for tag in run.scalars if tag.startswith("rlwatch/lift/")} | _told(run))
    if known and target not in known:
        raise ValueError(f"{run.folder} has the targets {', '.join(known)}, got {target!r}: choose one of them")
    if returns is not None and returns not in run.scalars:
        raise ValueError(f"{run.folder} has no scalars {returns}: leave --returns out to find those that all have")


def _told(run: Run) -> set[str]:
    """The targets that a run's report tells of; in maps without positive relevance there is no lift."""
    return ({str(run.report["target"])} if run.report else set()) | ({"contrast"} & run.report.keys())


def _notes(by_name: Mapping[str, Sequence[Run]], tag: str | None) -> Iterator[str]:
    runs = [run for some in by_name.values() for run in some]
    for folder in dict.fromkeys(folder for run in runs for folder in logs_of(run)):
        yield from damages(folder)
    few = [name for name, some in by_name.items() if 1 < len(some) < FEW]
    if few:
        yield f"a bootstrap over fewer than {FEW} seeds gives intervals that are too narrow: {', '.join(few)}"
    methods = sorted({method_of(run) for run in runs if "method" in run.report})
    if len(methods) > 1:
        yield f"explained by different methods, whose lifts differ by themselves: {', '.join(methods)}"
    unnamed = [str(run.folder) for run in runs if "probe" not in run.report]
    if unnamed:
        yield f"not checked for being of one probe, since their logs do not name it: {', '.join(unnamed)}"
    if tag is None:
        yield f"no returns: the runs share none of the tags {', '.join(RETURNS)}; name another with --returns TAG"


def _notes_on_seeds(compared: Sequence[Variant]) -> Iterator[str]:
    for variant in compared:
        if variant.ended:
            told = ", ".join(f"{run} at step {step:,}" for run, step in variant.ended.items())
            yield (
                f"ended before step {variant.steps[-1]:,} of {variant.name}: {told}; from there on fewer seeds stand "
                "behind its figures, and an onset that they had not had is unknown, not never"
            )
        measured = np.max([0 * variant.seeds, *(one.lift.runs for one in variant.objects.values())], axis=0)
        silent = variant.steps[measured < variant.seeds]
        if len(silent):
            yield (
                f"no positive relevance in the maps of some seeds of {variant.name} at {len(silent)} of its "
                f"{len(variant.steps)} steps, first at {silent[0]:,}: there the figures are of the others"
            )


def _variant(name: str, runs: Sequence[Run], target: str, tag: str | None, seed: int) -> Variant:
    own = {str(run.folder): _checkpoints(run, target) for run in runs}
    steps = _axis(list(own.values()))
    ended = {folder: int(some[-1]) for folder, some in own.items() if some[-1] < WHOLE * steps[-1]}
    cut = np.array([ended.get(folder, math.inf) for folder in own])
    seeds = np.sum([(some[0] <= steps) & (steps <= some[-1]) for some in own.values()], axis=0)
    objects = {one: _object(runs, one, target, steps, cut, seed) for one in dict.fromkeys(_all_objects(runs, target))}
    scores = None
    if tag is not None:
        curves = np.array([since_last(steps, *run.scalars[tag]) for run in runs])
        scores = band(curves, np.random.default_rng(seed))
    interval = "seeds" if len(runs) > 1 else "episodes"
    return Variant(name, tuple(own), interval, steps, seeds, ended, objects, scores)


def _object(
    runs: Sequence[Run],
    name: str,
    target: str,
    steps: Int[np.ndarray, " step"],
    ended: Float[np.ndarray, " run"],
    seed: int,
) -> ComparedObject:
    courses = [_course(run, target, name) for run in runs]
    curves = [interpolated(steps, course.steps, course.values("lift")) for course in courses]
    lift = band(np.array(curves), np.random.default_rng(seed))
    if len(runs) == 1:
        lift = Band(lift.middle, courses[0].values("low"), courses[0].values("high"), lift.runs)
    baselines = [course.untrained.lift for course in courses if not math.isnan(course.untrained.lift)]
    onset = median(np.array([course.onset for course in courses]), np.random.default_rng(seed), ended=ended)
    return ComparedObject(lift, float(np.mean(baselines)) if baselines else math.nan, onset)


def _course(run: Run, target: str, name: str) -> Course:
    steps, measured = _checkpoints(run, target), history(run, target, name)
    return Course(
        steps, tuple(measured.get(step, UNMEASURED) for step in steps.tolist()), _untrained(run, target, name)
    )


def _untrained(run: Run, target: str, name: str) -> ObjectRelevance:
    """The baseline; a log that holds no reports says its lift only."""
    told = run.report.get("untrained", {}).get(target, {}).get(name, {})
    lift = run.scalars.get(f"rlwatch/untrained/{target}/{name}", ((), [math.nan]))[1][-1]
    high = told.get("high")
    return replace(UNMEASURED, lift=float(lift), high=math.nan if high is None else float(high))


def _checkpoints(run: Run, target: str) -> Int[np.ndarray, " point"]:
    tags = [EVERY_CHECKPOINT, *(f"rlwatch/lift/{target}/{one}" for one in _objects(run, target))]
    return np.unique(np.concatenate([run.scalars[tag][0] for tag in tags if tag in run.scalars]))


def _axis(steps: Sequence[Int[np.ndarray, "..."]]) -> Int[np.ndarray, " step"]:
    """The steps of the run that came furthest, of several the one with the fewest checkpoints."""
    return min(steps, key=lambda one: (-one[-1], len(one)))


def _all_objects(runs: Sequence[Run], target: str) -> Iterator[str]:
    for run in runs:
        yield from _objects(run, target)


def _objects(run: Run, target: str) -> list[str]:
    begin = f"rlwatch/lift/{target}/"
    measured = [tag.removeprefix(begin) for tag in run.scalars if tag.startswith(begin)]
    return measured or list(run.report.get("objects", {}))


def _variant_json(variant: Variant) -> dict[str, Any]:
    return {
        "runs": variant.runs,
        "interval": variant.interval,
        "steps": variant.steps.tolist(),
        "seeds": variant.seeds.tolist(),
        "ended": dict(variant.ended),
        "objects": {name: _object_json(one) for name, one in variant.objects.items()},
        "returns": None if variant.returns is None else _band_json("iqm", variant.returns),
    }


def _object_json(one: ComparedObject) -> dict[str, Any]:
    told = one.onset
    onset = {"step": told.middle, "low": told.low, "high": told.high, "seeds": told.reached, "ended": told.ended}
    return {**_band_json("lift", one.lift), "untrained": one.untrained, "onset": onset}


def _band_json(middle: str, band: Band) -> dict[str, Any]:
    columns = {middle: band.middle, "low": band.low, "high": band.high, "seeds": band.runs}
    return {name: column.tolist() for name, column in columns.items()}
