"""The clips of a checkpoint: which frames of the probe they show, and on which colour scale."""

import math
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlwatch.atari import screen
from rlwatch.atari.names import ACTIONS
from rlwatch.atari.probe import Probe
from rlwatch.monitor.comparison import Maps
from rlwatch.monitor.gathering import shown_frames
from rlwatch.pictures.clip import encode_gif
from rlwatch.pictures.film import Caption, film
from rlwatch.pictures.heatmap import proposed_scale
from rlwatch.report import SCHEMA, Report
from rlwatch.tensorboard.blobs import ACTION_TOPS, Blobs, encode_frames, encode_maps, encode_words

WORDS = {
    "greedy": {
        "explains": "what the value of the best action rests on",
        "red": "raises the value",
        "blue": "lowers it",
    },
    "contrast": {
        "explains": "why the best action and not another",
        "red": "speaks for it",
        "blue": "for the others",
    },
}


class ClipMaker:
    """Draws the same frames of a probe for every checkpoint, on one colour scale per target that never shrinks.

    The scale is a power of two, taken from the checkpoints seen so far: it grows with the relevance of a learning agent
    (from an untrained network's hundredths of a Q unit) and stays when relevance fades, so a dying agent looks pale.
    Its frames are those of `shown_frames`, early game to late. `scales`: those of the clips that a log has already.
    """

    def __init__(self, probe: Probe, *, scales: Mapping[str, float] | None = None) -> None:
        self._probe, self._shown = probe, shown_frames(probe)
        self._screens = probe.rgb(self._shown)
        boxes = probe.boxes()
        self._boxes = [boxes[index] for index in self._shown]
        self._situations = [_situation(probe.situations[probe.segment[index]]) for index in self._shown]
        self._scales = dict(scales or {})
        self._scaled: weakref.ref[Maps] | None = None
        self._current: dict[str, float] = {}
        self._probe_blobs: tuple[bytes, bytes] | None = None

    def draw(self, report: Report, maps: Maps) -> dict[str, bytes]:
        """A GIF per target."""
        return {target: self._draw(target, report, maps) for target in maps.relevance}

    def blobs(self, maps: Maps) -> Blobs:
        """What the RLWATCH tab shows of the same frames, on the same colour scales.

        Raises: ValueError as `encode_maps` does.
        """
        if self._probe_blobs is None:
            self._probe_blobs = self._encode_probe(maps)
        return Blobs(self._probe_blobs, encode_maps(maps.relevance, self._scales_of(maps), maps.q_values))

    def actions(self, maps: Maps) -> bytes:
        """What the RLWATCH tab shows of every action's `maps`: one colour scale for all, at least greedy's.

        Raises: ValueError as `encode_maps` does.
        """
        for one in maps.relevance.values():
            self._scale("actions", one.sum(axis=1))
        scale = max(self._scales["actions"], self._scales.get("greedy", 0.0)) or 1.0
        scales = dict.fromkeys(maps.relevance, scale)
        return encode_maps(maps.relevance, scales, maps.q_values, tops=ACTION_TOPS)

    def _encode_probe(self, maps: Maps) -> tuple[bytes, bytes]:
        used, stacked = np.unique(self._probe.stack[self._shown], return_inverse=True)
        screens = screen.pooled_rgb(self._probe.screens[used], self._probe.palette)
        return encode_words(self._meta(maps)), encode_frames(screens, stacked.reshape(len(self._shown), -1))

    def _meta(self, maps: Maps) -> dict[str, Any]:
        probe = self._probe
        names = list(dict.fromkeys(name for frame in self._boxes for name in frame))
        return {
            "schema": SCHEMA,
            "game": probe.game,
            "digest": probe.digest,
            "actions": self._actions(maps.q_values.shape[1]),
            "indices": self._shown.tolist(),
            "height": probe.screens.shape[2],
            "width": probe.screens.shape[3],
            "stack": probe.stack.shape[1],
            "pooling": "maximum of two raw frames per colour channel",
            "episode": probe.episode[self._shown].tolist(),
            "step": probe.step[self._shown].tolist(),
            "segment": probe.segment[self._shown].tolist(),
            "situation": self._situations,
            "objects": names,
            "boxes": [{name: some for name, some in frame.items() if some} for frame in self._boxes],
            "targets": list(maps.relevance),
        }

    def _draw(self, target: str, report: Report, maps: Maps) -> bytes:
        pictures = film(
            self._screens,
            maps.relevance[target],
            scale=self._scales_of(maps)[target],
            boxes=self._boxes,
            q_values=maps.q_values,
            actions=self._actions(maps.q_values.shape[1]),
            caption=Caption(
                title=report.game.replace("_", " ").title(),
                step=report.step,
                returns=report.returns,
                situations=self._situations,
                **WORDS.get(target, {"explains": target}),
            ),
        )
        return encode_gif(pictures.indices, pictures.palette)

    @property
    def scales(self) -> dict[str, float]:
        """The scale of each target so far."""
        return dict(self._scales)

    def _scales_of(self, maps: Maps) -> dict[str, float]:
        """The scale of each target, after these maps have been taken into account, once."""
        if self._scaled is None or self._scaled() is not maps:
            self._scaled = weakref.ref(maps)
            self._current = {name: self._scale(name, one.sum(axis=1)) for name, one in maps.relevance.items()}
        return self._current

    def _scale(self, target: str, relevance: np.ndarray) -> float:
        wanted, before = proposed_scale(relevance), self._scales.get(target, 0.0)
        grown = before if math.isnan(wanted) else max(before, 2.0 ** math.ceil(math.log2(wanted)))
        self._scales[target] = grown
        return grown or 1.0  # of no relevance at all, any scale shows nothing

    def _actions(self, count: int) -> list[str]:
        named = next((some for some in (self._probe.actions, ACTIONS) if len(some) == count), None)
        return list(named or map(str, range(count)))


def _situation(word: str) -> str:
    return f"{word} game" if word in {"early", "mid", "late"} else word
