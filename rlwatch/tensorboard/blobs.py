"""What the RLWATCH tab reads beside the report: a probe's frames once, and each checkpoint's relevance in levels.

Numbers are little-endian. Every header says its `schema`; what a reader of another schema must not guess is refused.
"""

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int8, UInt8, UInt32
from numpy import ndarray

from rlwatch.pictures import heatmap
from rlwatch.report import SCHEMA

CODING = "zeros, then levels: y x stack target time"
PLUGIN = "rlwatch"
"""The name under which TensorBoard keeps these for the tab."""
REPORT, MAPS, ACTIONS, PROBE = "rlwatch/report", "rlwatch/maps", "rlwatch/actions", "rlwatch/probe"
COLOURS = 256
TOPS = (21, 7)
"""Levels of each sign. A heatmap has 7; three times as many give the same colours, and finer numbers for a pixel."""
ROOM = 24 << 10
"""Bytes that a checkpoint's maps may take; they get the levels of a heatmap where they would take more."""
ACTION_TOPS = (7, 4)
"""The same where every action gets its map: there are up to 18 of them, and those of an untrained network are noise."""
ACTIONS_LOGGED = 256
"""Maps of single actions after which the checkpoints that have them stand further and further apart."""
_EFFORT = 7
_DIGITS = 5

OTHER_VERSION = "another version of rlwatch has written this log: look at it by that one, and go on in another logdir"


@dataclass(frozen=True)
class Blobs:
    """What one checkpoint adds to the tab: its `maps`, and the `probe` (words, frames) that they belong to."""

    probe: tuple[bytes, bytes]
    maps: bytes


def encode_maps(
    relevance: Mapping[str, Float[ndarray, "time stack y x"]],
    scale: Mapping[str, float],
    q_values: Float[ndarray, "time action"],
    *,
    tops: Sequence[int] = TOPS,
) -> bytes:
    """The length of a header (uint32), the header in JSON, and the levels (y, x, stack, target, time), by zlib.

    Of the levels, those that are not 0 stand there, `pairs` of the header in number: first the counts of zeros before
    each of them (uint8), then they themselves (int8). Of 256 zeros in a row, the last is told like a level, behind 255
    others. What follows the last level is 0. So what is alike, the actions' maps of a pixel, stands together.

    `scale`: per target, the relevance per pixel at full colour, in Q units. `tops`: how many levels of each sign there
    may be; the first is taken that leaves the maps within ROOM bytes, else the last. Levels go from minus to plus the
    `top` of the header, which stands for `scale`.

    Raises: ValueError when relevance or Q-values hold NaN or infinity, or a scale is not positive.
    """
    if not np.isfinite(q_values).all():
        raise ValueError("q_values must be finite, got NaN or infinity: look for diverged weights")
    top, pairs, data = _pack(relevance, scale, tops)
    header = {
        "schema": SCHEMA,
        "targets": list(relevance),
        "shape": list(next(iter(relevance.values())).shape),
        "scale": {name: scale[name] for name in relevance},
        "q_values": rounded(q_values.tolist()),
        "top": top,
        "coding": CODING,
        "pairs": pairs,
    }
    words = compact(header)
    return b"".join([struct.pack("<I", len(words)), words, data])


def read_header(data: bytes) -> dict[str, Any]:
    """The header of `encode_maps`, checked against the bytes behind it.

    Raises: ValueError when it is none, or of another schema.
    """
    if len(data) < 4:  # noqa: PLR2004 - its own length
        raise ValueError(f"maps must begin with the length of their header, got {len(data)} bytes")
    (length,) = struct.unpack_from("<I", data)
    header = parse(data[4 : 4 + length])
    if header.get("coding") != CODING:
        raise ValueError(f"levels must be coded as {CODING!r}, got {header.get('coding')!r:.60}: {OTHER_VERSION}")
    shape: Any = header.get("shape")
    targets: Any = header.get("targets")
    if not (_counts(shape) and len(shape) == 4 and math.prod(shape) <= _LARGEST):  # noqa: PLR2004 - time stack y x
        raise ValueError(f"maps must have a shape of four counts, got {shape!r:.80}")
    numbers: Any = header.get("scale"), header.get("top")
    if not (_names(targets) and _positive(numbers[0], targets) and _positive({"top": numbers[1]}, ["top"])):
        raise ValueError("maps must name their targets, the scale of each, and the top level")
    pairs: Any = header.get("pairs")
    if not (_counts([pairs]) and pairs <= math.prod(shape) * len(targets)):
        raise ValueError(f"maps must hold at most one pair for each of their levels, got {pairs!r:.40}")
    return header


def encode_words(record: Any) -> bytes:
    """JSON by zlib.

    Raises: ValueError for NaN or infinity.
    """
    return zlib.compress(compact(record), _EFFORT)


def read_words(data: bytes) -> bytes:
    """The JSON that `encode_words` has packed.

    Raises: ValueError when it is none, holds NaN or infinity, is of another schema, or larger than 16 MB.
    """
    if data.startswith(b"{"):
        raise ValueError(f"words must be packed by zlib, got plain JSON: {OTHER_VERSION}")
    try:
        text = zlib.decompressobj().decompress(data, _MOST_WORDS)
    except zlib.error as error:
        raise ValueError(f"words must be packed by zlib, got {data[:40]!r}") from error
    parse(text)
    return text


def encode_frames(screens: UInt8[ndarray, "frame y x 3"], stacked: Int[ndarray, "time stack"]) -> bytes:
    """By zlib: the count of colours (uint16), the colours, `stacked` (uint16), and for each pixel its colours' entries.

    A pixel has one entry for each of `screens`, most of which are the same. `stacked`: which of them an observation
    stacks, oldest first. Of more than 256 colours the rarest are shown as the nearest of the others.
    """
    flat = screens.reshape(-1, 3).astype(np.uint32)
    codes = flat[:, 0] << 16 | flat[:, 1] << 8 | flat[:, 2]
    colours, entries = _indexed(codes)
    parts = [
        struct.pack("<H", len(colours)),
        colours.tobytes(),
        stacked.astype("<u2").tobytes(),
        np.ascontiguousarray(entries.reshape(len(screens), -1).T).tobytes(),
    ]
    return zlib.compress(b"".join(parts), _EFFORT)


def compact(record: Any) -> bytes:
    """JSON without spaces.

    Raises: ValueError for NaN or infinity.
    """
    return json.dumps(record, separators=(",", ":"), allow_nan=False).encode()


def parse(text: bytes) -> dict[str, Any]:
    """A JSON object of this schema.

    Raises: ValueError when it is none, holds NaN or infinity, or is of another schema.
    """
    try:
        record = json.loads(text.decode(), parse_constant=_refuse)
        finite = _finite(record)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a record must be JSON with finite numbers, got {text[:40]!r}") from error
    if not isinstance(record, dict) or not finite:
        raise ValueError(f"a record must be a JSON object with finite numbers, got {text[:40]!r}")
    found = record.get("schema")
    if found != SCHEMA:
        raise ValueError(f"this rlwatch reads records of schema {SCHEMA}, got {found!r:.40}: upgrade rlwatch")
    return record


def rounded(value: Any) -> Any:
    """A JSON value whose fractions have five significant digits: what a screen can show."""
    match value:
        case dict():
            return {key: rounded(inner) for key, inner in value.items()}
        case list() | tuple():
            return [rounded(inner) for inner in value]
        case float():
            return float(f"{value:.{_DIGITS}g}")
        case _:
            return value


def _finite(value: Any) -> bool:
    """Whether no number in a JSON value is infinite: Python reads 1e999 so."""
    if isinstance(value, float):
        return math.isfinite(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(_finite, inner))


def _refuse(constant: str) -> None:
    raise ValueError(f"JSON has no {constant}")


def _indexed(codes: UInt32[ndarray, " pixel"]) -> tuple[UInt8[ndarray, "colour 3"], UInt8[ndarray, " pixel"]]:
    """The colours that occur (24 bits: red, green, blue), and which of them each pixel has."""
    present = np.zeros(1 << 24, bool)
    present[codes] = True
    found = np.flatnonzero(present)
    rank = np.zeros(1 << 24, np.uint16 if len(found) < 1 << 16 else np.uint32)
    rank[found] = np.arange(len(found))
    ranks = rank[codes]
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.uint8)
    if len(found) <= COLOURS:
        return colours, ranks.astype(np.uint8)
    kept = colours[np.sort(np.argsort(-np.bincount(ranks), kind="stable")[:COLOURS])].astype(np.int16)
    nearest = np.array([np.abs(kept - colour).sum(axis=1).argmin() for colour in colours], np.uint8)
    return kept.astype(np.uint8), nearest[ranks]


def _pack(
    relevance: Mapping[str, Float[ndarray, "time stack y x"]], scale: Mapping[str, float], tops: Sequence[int]
) -> tuple[int, int, bytes]:
    """The levels of each sign, how many pairs of zeros and level there are, and these."""
    for top in tops:
        levels = [_levels(one.transpose(1, 2, 3, 0), scale[name], top) for name, one in relevance.items()]
        zeros, others = _coded(np.stack(levels).transpose(2, 3, 1, 0, 4))
        data = zlib.compress(zeros.tobytes() + others.tobytes(), _EFFORT)
        if len(data) <= ROOM:
            break
    return top, len(zeros), data


def _levels(relevance: Float[ndarray, "stack y x time"], scale: float, top: int) -> Int8[ndarray, "stack y x time"]:
    """Levels whose sum over the stack is the nearest to that of the relevance; each is one of the two next to its own.

    Of a pixel whose levels do not add up, those change that lie furthest from their relevance.
    """
    levels = heatmap.levels(relevance, scale, 2 * top + 1)
    exact = np.clip(relevance * relevance.dtype.type(top / scale), -top, top)
    rest = exact - levels
    missing = np.rint(exact.sum(axis=0)) - levels.sum(axis=0)
    while missing.any():
        at = np.nonzero(missing)
        sign = np.sign(missing[at])
        furthest = (rest[(slice(None), *at)] * sign).argmax(axis=0)
        levels[(furthest, *at)] += sign.astype(np.int8)
        rest[(furthest, *at)] -= sign
        missing[at] -= sign
    return levels


def _coded(levels: Int8[ndarray, "y x stack target time"]) -> tuple[UInt8[ndarray, " pair"], Int8[ndarray, " pair"]]:
    """The zeros before each level, and the level, as `encode_maps` says."""
    flat = levels.ravel()
    places = np.flatnonzero(flat)
    zeros = np.diff(places, prepend=-1) - 1
    ends = np.cumsum(zeros // 256 + 1) - 1
    count = int(ends[-1]) + 1 if len(ends) else 0
    before, own = np.full(count, 255, np.uint8), np.zeros(count, np.int8)
    before[ends], own[ends] = zeros % 256, flat[places]
    return before, own


_LARGEST = 1 << 26
_MOST_WORDS = 1 << 24


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value) and len(set(value)) == len(value)


def _positive(value: Any, names: list[str]) -> bool:
    """Whether each name has a positive number."""
    positive = isinstance(value, dict) and all(type(one) in {int, float} and one > 0 for one in value.values())
    return positive and set(value) == set(names)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and 0 <= one <= _LARGEST for one in value)
