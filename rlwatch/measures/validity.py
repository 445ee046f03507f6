"""How alike two sets of maps are, and whether a map lies on given pixels: NumPy in, NumPy out."""

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float

from rlwatch.measures.ranks import ranks

Map = Float[np.ndarray, "probe y x"]
Ranks = Float[np.ndarray, "probe pixel"]


def spearman(one: Map, other: Map) -> Float[np.ndarray, " probe"]:
    """The signed rank correlation of two maps of each frame: 1 the same order of pixels, 0 unrelated, -1 reversed.

    NaN for a frame in which either map is constant.
    Source: Spearman 1904, doi 10.2307/1412159; signed, since what speaks for and against an action must not be mixed up
    (Adebayo et al. 2018, arXiv 1810.03292).
    """
    return correlation(*(ranks(maps.reshape(len(maps), -1)) for maps in (one, other)))


def correlation(one: Ranks, other: Ranks) -> Float[np.ndarray, " probe"]:
    """What `spearman` says of maps with these ranks."""
    centred = [ranked - ranked.mean(axis=1, keepdims=True) for ranked in (one, other)]
    norms = np.linalg.norm(centred[0], axis=1) * np.linalg.norm(centred[1], axis=1)
    together: Float[np.ndarray, " probe"] = np.einsum("pi,pi->p", *centred)
    return _ratio(together, norms)


def ssim(one: Map, other: Map, *, window: int = 7, k1: float = 0.01, k2: float = 0.03) -> Float[np.ndarray, " probe"]:
    """The structural similarity of two maps of each frame, each divided by its largest absolute value: 1 = the same.

    Windows are square and even, variances are a sample's, and windows that reach beyond the border do not count, as in
    scikit-image. Empty maps stay empty.
    Source: Wang et al. 2004, doi 10.1109/TIP.2003.819861; scaling of maps: Adebayo et al. 2018, arXiv 1810.03292.

    Raises: ValueError when a map is smaller than the window.
    """
    if min(one.shape[1:]) < window:
        raise ValueError(f"maps must be at least {window} × {window}, got {one.shape[1:]}: give a smaller window=")
    x, y = (_to_unit(maps.astype(np.float64)) for maps in (one, other))
    mean_x, mean_y = _windows(x, window), _windows(y, window)
    sample = window**2 / (window**2 - 1)
    variance_x = sample * (_windows(x * x, window) - mean_x**2)
    variance_y = sample * (_windows(y * y, window) - mean_y**2)
    covariance = sample * (_windows(x * y, window) - mean_x * mean_y)
    luminance, structure = (2 * k1) ** 2, (2 * k2) ** 2  # values span 2, from -1 to 1
    alike = (2 * mean_x * mean_y + luminance) * (2 * covariance + structure)
    most = (mean_x**2 + mean_y**2 + luminance) * (variance_x + variance_y + structure)
    similarity: Float[np.ndarray, " probe"] = (alike / most).mean(axis=(1, 2))
    return similarity


def _to_unit(maps: Map) -> Map:
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    unit: Map = np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)
    return unit


def _windows(maps: Map, window: int) -> Float[np.ndarray, "probe row column"]:
    """The mean of every window that lies inside the map."""
    inside = slice(window // 2, -((window - 1) // 2) or None)
    return np.stack([cv2.blur(one, (window, window)) for one in maps])[:, inside, inside]


def pointing(
    relevance: Float[np.ndarray, "probe stack y x"], mask: Bool[np.ndarray, "probe stack y x"]
) -> Float[np.ndarray, " probe"]:
    """1 where the most relevant pixel of a frame's stack lies on the mask, 0 where it does not.

    NaN for a frame with an empty mask or without positive relevance. A map that knows nothing hits as often as the mask
    is large: compare with `covered`. They allow 15 pixels of 224 beside the object, we what the masks were grown by.
    Source: Zhang et al. 2016, doi 10.1007/978-3-319-46493-0_33.
    """
    flat, inside = relevance.reshape(len(relevance), -1), mask.reshape(len(mask), -1)
    hit: Float[np.ndarray, " probe"] = inside[np.arange(len(flat)), flat.argmax(axis=1)].astype(np.float64)
    hit[~inside.any(axis=1) | (flat.max(axis=1) <= 0)] = np.nan
    return hit


def mass(
    relevance: Float[np.ndarray, "probe stack y x"], mask: Bool[np.ndarray, "probe stack y x"]
) -> Float[np.ndarray, " probe"]:
    """The part of a frame's positive relevance that lies on the mask, 0 to 1; NaN where either is empty.

    Source: Arras, Osman and Samek 2022, doi 10.1016/j.inffus.2021.11.008 (relevance mass accuracy).
    """
    positive = np.maximum(relevance, 0).reshape(len(relevance), -1).astype(np.float64)
    inside = mask.reshape(len(mask), -1)
    total = np.where(inside.any(axis=1), positive.sum(axis=1), 0)
    return _ratio((positive * inside).sum(axis=1), total)


def covered(mask: Bool[np.ndarray, "probe stack y x"]) -> float:
    """The part of a stack that the mask covers where it is not empty: `pointing` and `mass` of a map by chance."""
    seen = mask[mask.any(axis=(1, 2, 3))]
    return float(seen.mean()) if len(seen) else math.nan


def moves(mask: Bool[np.ndarray, "probe stack y x"], *, often: float = 0.2) -> bool:
    """Whether an object moves: it comes to cover new pixels within a stack in more than `often` of the frames it is in.

    In the probes that ship, balls do so in all, paddles in 27 to 85 of 100 frames, all else in fewer than 10.
    """
    seen = mask.any(axis=(1, 2, 3))
    new = (mask[:, -1] & ~mask[:, 0]).any(axis=(1, 2))
    return bool(seen.any() and new[seen].mean() > often)


def _ratio(part: Float[np.ndarray, " probe"], whole: Float[np.ndarray, " probe"]) -> Float[np.ndarray, " probe"]:
    ratio: Float[np.ndarray, " probe"] = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return ratio
