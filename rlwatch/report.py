"""What one checkpoint yields, as plain frozen records: the writer, the tab and `--json` all read these."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rlwatch.measures.relevance import ObjectRelevance, QStatistics, TargetRelevance

SCHEMA = 1
"""Of reports as JSON and of all that a log holds for the RLWATCH tab."""
COLUMNS = ("object", "lift", "95 % interval", "untrained", "share for", "share against", "frames")
MAP_STATISTICS = ("gini", "entropy", "conservation", "absorbed", "score", "unnamed", "drift_spearman", "drift_cosine")
NOTHING_FOUND = "nothing has stood above its untrained baseline in two checkpoints in a row"
NO_BASELINE = "no findings: there is no untrained baseline to compare with"
NO_OBJECTS = "no findings: no objects are known in the probe, name places of your own under [regions]"
MEANINGS = {"greedy": "what the value rests on", "contrast": "what the choice between actions rests on"}


@dataclass(frozen=True)
class Finding:
    """A sentence about an object, or about the training where that is empty, and the step from which it holds."""

    step: int
    target: str
    object: str
    text: str


@dataclass(frozen=True)
class Report:
    """Everything that one checkpoint yields.

    `targets`: the statistics per target. `untrained`: the objects' statistics with random weights, the baseline.
    `returns`: mean return that the training told last, NaN when it told none. `cost`: seconds per part of the work,
    and `fraction`, the monitor's share of the wall clock so far. `notes`: what a reader must know to trust the maps.
    `validity`: the figures of the checks on the maps by name, empty where they were not made; `trust`: what these say.
    `all_actions`: whether the log has the maps of every action. `options`: the method's own keywords, as of `plainly`.
    """

    step: int
    checkpoint: str
    game: str
    probe: str
    method: str
    q: QStatistics
    targets: Mapping[str, TargetRelevance]
    untrained: Mapping[str, Mapping[str, ObjectRelevance]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    validity: Mapping[str, float] = field(default_factory=dict)
    trust: str = ""
    all_actions: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    returns: float = math.nan
    cost: Mapping[str, float] = field(default_factory=dict)

    def scalars(self) -> dict[str, float]:
        """Tag to value, for every number of this checkpoint that a curve can show; NaN where nothing was measured."""
        tags = {f"rlwatch/q/{name}": value for name, value in asdict(self.q).items()}
        tags["rlwatch/returns/told"] = self.returns
        tags |= {f"rlwatch/cost/{name}": value for name, value in self.cost.items()}
        tags |= {f"rlwatch/validity/{check}": value for check, value in self.validity.items()}
        for target, measured in self.targets.items():
            tags |= _target_scalars(target, measured)
        for target, objects in self.untrained.items():
            tags |= {f"rlwatch/untrained/{target}/{name}": one.lift for name, one in objects.items()}
        return tags

    def __str__(self) -> str:
        return self.markdown()

    def markdown(self) -> str:
        """The checkpoint in words: findings, then a table of objects per target; what TensorBoard's Text tab shows."""
        lines = [f"**step {self.step:,}**" + ("" if math.isnan(self.returns) else f", return {self.returns:.1f}"), ""]
        lines += [f"- {one.text}" for one in self.findings] or [f"- {self._nothing}"]
        lines += [f"- trust: {self.trust}"] if self.trust else []
        lines += [f"- note: {note}" for note in self.notes]
        for target in self.targets:
            lines += [
                "",
                f"**{MEANINGS.get(target, target)}** (`{target}`)",
                "",
                _row(COLUMNS),
                "|---" * len(COLUMNS) + "|",
            ]
            lines += [_row(cells) for cells in self.rows(target)]
        return "\n".join(lines)

    @property
    def _nothing(self) -> str:
        """Why there are no findings."""
        if not any(measured.objects for measured in self.targets.values()):
            return NO_OBJECTS
        return NOTHING_FOUND if self.untrained else NO_BASELINE

    def rows(self, target: str) -> list[tuple[str, ...]]:
        """The table of objects in words, highest lift first; its columns are `COLUMNS`."""
        measured = self.targets[target].objects
        untrained = self.untrained.get(target, {})
        return [
            (
                name,
                _told(one.lift, ".1f"),
                "-" if math.isnan(one.low) else f"{one.low:.1f} to {one.high:.1f}",
                _told(untrained[name].lift if name in untrained else math.nan, ".1f"),
                _percent(one.share),
                _percent(one.share_negative),
                str(one.frames),
            )
            for name, one in sorted(measured.items(), key=lambda item: -_rank(item[1].lift))
        ]

    def as_json(self, target: str = "greedy") -> dict[str, Any]:
        """One JSON object: the statistics of `target` at the top level, those of the others under their names.

        NaN becomes null, so that every JSON parser reads it.
        """
        others = {name: _target_json(measured) for name, measured in self.targets.items() if name != target}
        untrained = {name: _objects_json(objects) for name, objects in self.untrained.items()}
        record = {
            "schema": SCHEMA,
            "step": self.step,
            "checkpoint": self.checkpoint,
            "game": self.game,
            "probe": self.probe,
            "method": self.method,
            "options": dict(self.options),
            "target": target,
            "q": asdict(self.q),
            **_target_json(self.targets[target]),
            **others,
            "untrained": untrained,
            "findings": [asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
            "validity": dict(self.validity),
            "trust": self.trust,
            "returns": self.returns,
            "cost": dict(self.cost),
        }
        cleaned: dict[str, Any] = without_nan(record)
        return cleaned


def _told(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _percent(part: float) -> str:
    """In words, as the tab has it: of a small part one digit more, so that little is not taken for nothing."""
    return "-" if math.isnan(part) else f"{100 * part:.{int(0 < part < 0.0995)}f} %"  # noqa: PLR2004 - below 10 %


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _rank(lift: float) -> float:
    return -math.inf if math.isnan(lift) else lift


def _target_scalars(target: str, measured: TargetRelevance) -> dict[str, float]:
    tags: dict[str, float] = {}
    for name, one in measured.objects.items():
        tags[f"rlwatch/lift/{target}/{name}"] = one.lift
        tags[f"rlwatch/lift_low/{target}/{name}"] = one.low
        tags[f"rlwatch/lift_high/{target}/{name}"] = one.high
        tags[f"rlwatch/share/{target}/{name}"] = one.share
        tags[f"rlwatch/share_negative/{target}/{name}"] = one.share_negative
        tags[f"rlwatch/relevance/{target}/{name}"] = one.relevance
    for index, share in enumerate(measured.stack):
        tags[f"rlwatch/stack/{target}/{index - len(measured.stack) + 1:+d}"] = share
    tags |= {f"rlwatch/map/{target}/{name}": getattr(measured, name) for name in MAP_STATISTICS}
    tags |= {f"rlwatch/map/{target}/centre_{axis}": value for axis, value in zip("yx", measured.centre, strict=True)}
    return tags


def _target_json(measured: TargetRelevance) -> dict[str, Any]:
    return asdict(measured) | {"objects": _objects_json(measured.objects)}


def _objects_json(objects: Mapping[str, ObjectRelevance]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in objects.items()}


def plainly(options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's keywords that shape its maps, as JSON has them; where it has no such value, its type's name."""
    return {name: _plain(value) for name, value in options.items() if name not in {"batch_size", "fallback"}}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return without_nan(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__


def without_nan(value: Any) -> Any:
    """The value with None for every number in it that is NaN or infinite, and lists for tuples, as JSON has them."""
    match value:
        case dict():
            return {key: without_nan(inner) for key, inner in value.items()}
        case list() | tuple():
            return [without_nan(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
