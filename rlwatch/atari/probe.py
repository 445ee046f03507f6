"""The fixed set of recorded observations that every checkpoint is asked about."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, jaxtyped

from rlwatch.atari import background, edits, objects, placing, probe_file, screen, sheet
from rlwatch.atari.edits import Edits
from rlwatch.atari.names import MOST_ACTIONS
from rlwatch.atari.objects import Boxes
from rlwatch.atari.placing import Placed
from rlwatch.atari.screen import Size


@dataclass(frozen=True, eq=False)
class Probe:
    """Observations in runs of consecutive agent steps, and all that it takes to come back to them.

    What is unique stands once per frame: `screens`, the two raw screens (palette indices) that an agent's picture is
    pooled from; `ram`, the memory after the last three raw frames, the last two of which belong to the screens;
    `states`, the emulator's serialised state from which its action `led_by`, held for `held` raw frames, leads to the
    screens (zeros after its end do no harm). `stack`: which frames an observation stacks, oldest first; at an
    episode's start the first one is repeated. `action`, a number of the minimal set `actions`, was chosen upon the
    observation and earned `reward`; `score` is the return before. `segment` numbers the runs, `situations` has a word
    for each. `palette`: red, green, blue and grey of each colour index. `background`: the commonest index of each
    pixel. All arrays are read-only. `edits`: what the user calls the objects; no part of the digest and of the file.
    `size`: lines and columns of the agent's pictures, see `seen`; no part of the file.

    Raises: ValueError when the parts do not fit together.
    """

    game: str
    actions: tuple[str, ...]
    situations: tuple[str, ...]
    metadata: Mapping[str, str]
    palette: UInt8[np.ndarray, "256 4"]
    background: UInt8[np.ndarray, "y 160"]
    screens: UInt8[np.ndarray, "frame 2 y 160"]
    ram: UInt8[np.ndarray, "frame 3 128"]
    states: UInt8[np.ndarray, "frame byte"]
    led_by: Int64[np.ndarray, " frame"]
    held: Int64[np.ndarray, " frame"]
    stack: Int64[np.ndarray, "probe stack"]
    episode: Int64[np.ndarray, " probe"]
    step: Int64[np.ndarray, " probe"]
    segment: Int64[np.ndarray, " probe"]
    lives: Int64[np.ndarray, " probe"]
    action: Int64[np.ndarray, " probe"]
    reward: Float64[np.ndarray, " probe"]
    score: Float64[np.ndarray, " probe"]
    edits: Edits | None = None
    size: Size = screen.SIZE

    def __post_init__(self) -> None:
        _check_shapes(self.arrays())
        _check_contents(self)
        for array in self.arrays().values():
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.stack)

    def __repr__(self) -> str:
        return f"<Probe of {self.game}: {len(self)} observations in {len(self.situations)} segments>"

    @classmethod
    def load(cls, source: str | Path, *, objects: str | Path | None = None) -> "Probe":
        """The probe of a file, or the one that ships with rlwatch for a game ("breakout", "ALE/Breakout-v5").

        `objects`: a TOML file with names for its objects, see rlwatch/atari/edits.py (default: the one beside the
        probe that is called as it is but for its end, `.toml`, where there is one).

        Raises: ValueError when the file is no whole probe, or the names do not fit; FileNotFoundError when there is
        neither file nor game.
        """
        path = probe_file.locate(source)
        words, arrays = probe_file.read(path)
        digest = words.pop("digest", None)
        try:
            _check_shapes(arrays)
            probe = cls(**_typed(words), **arrays)  # type: ignore[arg-type]  # __post_init__ checks each array
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is no whole probe ({error}): {probe_file.REMEDY}") from error
        if probe.content != digest:
            raise ValueError(
                f"{path} is no whole probe: expected digest {digest}, got {probe.content}: {probe_file.REMEDY}"
            )
        beside = path.with_suffix(".toml")
        named = objects or (beside if beside.is_file() else None)
        return probe.edited(named) if named else probe

    def edited(self, file: str | Path) -> "Probe":
        """The probe with its objects as a TOML file names them.

        Raises: ValueError when the names do not fit; FileNotFoundError.
        """
        edited = replace(self, edits=edits.read(Path(file), self.screens.shape[2]))
        _ = edited.placed
        return edited

    def seen(self, depth: int, size: Size) -> "Probe":
        """The probe as an agent sees it that stacks `depth` pictures of `size` (lines, columns).

        Where more pictures are stacked than were recorded, observations are left out that reach back before their
        segment, but for those at an episode's start.

        Raises: ValueError when none is left.
        """
        stack = _restacked(self, depth)
        kept = stack[:, 0] >= 0
        if set(self.segment[kept].tolist()) != set(self.segment.tolist()):
            raise ValueError(f"the probe must hold {depth} frames in a row to stack them: stack fewer")
        rows = {name: getattr(self, name)[kept] for name in _PER_OBSERVATION}
        seen = replace(self, stack=stack[kept], size=size, **rows)
        seen.__dict__["placed"] = self.placed  # objects are followed over all frames, whichever are stacked
        return seen

    def save(self, path: str | Path) -> None:
        """Write the probe to a file, which is replaced only once everything is written.

        Raises: OSError when it cannot be written.
        """
        probe_file.write(Path(path), self._words() | {"digest": self.content}, self.arrays())

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _NO_ARRAYS}

    @cached_property
    def digest(self) -> str:
        """In hexadecimal, equal for probes that hold the same and are seen alike."""
        if self.size == screen.SIZE:
            return self.content
        return hashlib.sha256(f"{self.content} {self.size}".encode()).hexdigest()

    @cached_property
    def content(self) -> str:
        """SHA-256 of all that the probe holds, in hexadecimal."""
        content = hashlib.sha256(json.dumps(self._words(), sort_keys=True).encode())
        for name, array in sorted(self.arrays().items()):
            content.update(f"{name} {array.dtype.str} {array.shape}".encode())
            content.update(np.ascontiguousarray(array).data)
        return content.hexdigest()

    def observations(self, first: int | None = None) -> UInt8[np.ndarray, "probe stack y x"]:
        """What an agent sees, bit for bit as through gymnasium's `AtariPreprocessing` and `FrameStackObservation`.

        `first`: only so many of them.
        """
        used, stack = np.unique(self.stack[:first], return_inverse=True)
        pictures = screen.pictures(self.screens[used], self.palette, self.size)
        stacked: UInt8[np.ndarray, "probe stack y x"] = pictures[stack.reshape(-1, self.stack.shape[1])]
        return stacked

    def rgb(self, some: Sequence[int] | slice | np.ndarray = slice(None)) -> UInt8[np.ndarray, "some y 160 3"]:
        """The newest frame of some of the observations (all) in colour, pooled as the agent's is."""
        return screen.pooled_rgb(self.screens[self.stack[some, -1]], self.palette)

    @cached_property
    def placed(self) -> Placed:
        """Its objects on each screen: from the memory where the game has a map, else against the background."""
        mapped = objects.find(self.game)
        placed = placing.by_ram(mapped, self.ram) if mapped else self._found()
        return edits.apply(self.edits, placed, 2 * len(self.screens)) if self.edits else placed

    def masks(self, *, dilation: int = 1) -> dict[str, Bool[np.ndarray, "probe stack y x"]]:
        """Each object's pixels in each stacked frame; none where the game has no map and its background moves.

        A mask holds the object as either of the two pooled screens shows it, grown by `dilation` pixels on each side.
        """
        return dict(self.each_mask(dilation=dilation))

    def each_mask(self, *, dilation: int = 1) -> Iterator[tuple[str, Bool[np.ndarray, "probe stack y x"]]]:
        """As `masks`, one object after the other: all together take 7 MB each."""
        used, stack = np.unique(self.stack, return_inverse=True)
        for name, frames in self._masks(used, dilation).items():
            yield name, frames[stack.reshape(self.stack.shape)]

    def boxes(self) -> list[Boxes]:
        """For each observation, each object's boxes on its newest raw screen, empty where it is not visible."""
        newest = 2 * self.stack[:, -1] + 1
        return [
            {name: tuple(piece.box for piece in shapes[screen]) for name, shapes in self.placed.shapes.items()}
            for screen in newest
        ]

    def visible(self) -> dict[str, int]:
        """In how many observations each object is to be seen, in at least one stacked frame."""
        used = np.unique(self.stack)
        seen = {name: used[frames.any(axis=(1, 2))] for name, frames in self._masks(used, 0).items()}
        return {name: int(np.isin(self.stack, frames).any(axis=1).sum()) for name, frames in seen.items()}

    def contact_sheet(self) -> UInt8[np.ndarray, "y x 3"]:
        """A picture of the probe: from each segment one screen, with its objects outlined and named."""
        middles = [int(np.median(np.flatnonzero(self.segment == segment))) for segment in range(len(self.situations))]
        boxes = self.boxes()
        episodes = len(np.unique(self.episode))
        return sheet.draw(
            f"{self.game}: {len(self)} observations in {len(middles)} segments from {episodes} episodes; {self.placed}",
            screen.rgb(self.screens[self.stack[middles, -1], 1], self.palette),
            [boxes[middle] for middle in middles],
            [f"{self.situations[self.segment[m]]}, step {self.step[m]}, score {self.score[m]:g}" for m in middles],
            self.visible(),
        )

    def _words(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _WORDS} | {"metadata": dict(self.metadata)}

    def _masks(self, frames: Int64[np.ndarray, " some"], dilation: int) -> dict[str, Bool[np.ndarray, "some y x"]]:
        raw = (2 * frames[:, None] + np.arange(2)).ravel().tolist()
        shapes = {name: [everywhere[one] for one in raw] for name, everywhere in self.placed.shapes.items()}
        return placing.masks(shapes, self.screens.shape[2], size=self.size, dilation=dilation)

    def _found(self) -> Placed:
        segment, score = np.zeros(len(self.screens), int), np.full(len(self.screens), np.nan)
        segment[self.stack[::-1]] = self.segment[::-1, None]
        score[self.stack[:, -1]] = self.score
        found = background.find(self.screens, self.background, self.palette, segment, score)
        return placing.by_background(found, 2 * len(self.screens))


_WORDS = ("game", "actions", "situations", "metadata")
_NO_ARRAYS = (*_WORDS, "edits", "size")
_PER_OBSERVATION = ("episode", "step", "segment", "lives", "action", "reward", "score")


def _restacked(probe: Probe, depth: int) -> Int64[np.ndarray, "probe stack"]:
    """Which frames each observation stacks where `depth` are stacked; -1 where they are not in the probe."""
    recorded = probe.stack.shape[1]
    stacks = []
    for segment in range(len(probe.situations)):
        rows = probe.segment == segment
        stack, begun = probe.stack[rows], probe.step[rows][0]
        older = stack[0, 0] if begun < recorded else -1
        frames = np.concatenate([np.full(depth, older), stack[0, :-1], stack[:, -1]])
        places = np.arange(len(stack))[:, None] + np.arange(recorded, depth + recorded)
        stacks.append(frames[places])
    return np.concatenate(stacks)


def _typed(words: dict[str, Any]) -> dict[str, Any]:
    """The words of a file as the types that a probe holds."""
    if set(words) != set(_WORDS):
        raise ValueError(f"expected the entries {', '.join(_WORDS)}, got {', '.join(map(repr, words))}")
    if not isinstance(words["metadata"], dict):
        raise ValueError(f"expected metadata by name, got {words['metadata']!r}")  # noqa: TRY004 - a value
    texts = [words["game"], *words["actions"], *words["situations"], *words["metadata"].values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("expected text in game, actions, situations and metadata")
    return words | {"actions": tuple(words["actions"]), "situations": tuple(words["situations"])}


def _check_shapes(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise unless every array is of its annotated type, equal axes being equally long."""
    types: dict[str, Any] = {field.name: field.type for field in fields(Probe) if field.name not in _NO_ARRAYS}
    if set(arrays) != set(types):
        raise ValueError(f"expected the arrays {', '.join(types)}, got {', '.join(arrays)}")
    with jaxtyped("context"):
        for name, array in arrays.items():
            if not isinstance(array, types[name]):
                raise ValueError(f"{name} must be {types[name].__name__}, got {array.dtype} {array.shape}")  # noqa: TRY004 - a value


def _check_contents(probe: Probe) -> None:
    """Raise unless all numbers that point to something point into it, and segments are runs of one episode."""
    limits = {
        "stack": len(probe.screens),
        "segment": len(probe.situations),
        "action": len(probe.actions),
        "led_by": MOST_ACTIONS,
        "held": screen.SKIP + 1,
    }
    for name, limit in limits.items():
        values = getattr(probe, name)
        if len(values) == 0 or values.min() < 0 or values.max() >= limit:
            raise ValueError(f"{name} must hold numbers from 0 to {limit - 1}, and at least one")
    together = np.diff(probe.segment) == 0
    steps, episodes = np.diff(probe.step)[together], np.diff(probe.episode)[together]
    if not ((steps == 1).all() and (episodes == 0).all() and np.isin(np.diff(probe.segment), (0, 1)).all()):
        raise ValueError(
            "a segment must be a run of consecutive steps of one episode, and segments be numbered in order"
        )
    if set(np.unique(probe.segment)) != set(range(len(probe.situations))):
        raise ValueError(f"expected a word for each of the {probe.segment.max() + 1} segments, got {probe.situations}")
