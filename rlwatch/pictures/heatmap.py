"""Relevance as colour: red speaks for, blue against, on one symmetric scale."""

import math

import numpy as np
from jaxtyping import Float, Int8, UInt8
from numpy import ndarray

LEVELS = 15
FOR = (255, 66, 54)
AGAINST = (62, 140, 255)
"""Full red and full blue: they differ in hue and lightness for every common colour blindness (no green is involved)."""


def levels(
    relevance: Float[ndarray, "*frames y x"], scale: float, levels: int = LEVELS
) -> Int8[ndarray, "*frames y x"]:
    """Signed colour levels, from -(levels // 2) (full blue) over 0 (no colour) to levels // 2 (full red).

    `scale` is the relevance per pixel, in Q-value units, at full colour. Level 0 holds |relevance| up to
    scale / (levels - 1). Relevance beyond the scale gets full colour; `saturated` tells how much of it there is.

    Raises: ValueError when `scale` is not positive, `levels` is not odd or `relevance` has NaN or infinity.
    """
    _check_scale(scale)
    if levels < 3 or levels > 2 * np.iinfo(np.int8).max or levels % 2 == 0:  # noqa: PLR2004 - one level per sign, and 0
        raise ValueError(f"levels must be an odd number from 3 to 253, got {levels}: zero needs a level of its own")
    _check_finite(relevance)
    top = levels // 2
    scaled: ndarray = np.rint(relevance * relevance.dtype.type(top / scale))
    clipped: ndarray = np.clip(scaled, -top, top)
    return clipped.astype(np.int8)


def palette(backdrop: tuple[int, int, int]) -> UInt8[ndarray, "level rgb"]:
    """Colours of the levels, from the most negative to the most positive; the middle one is `backdrop`."""
    top = LEVELS // 2
    strength = _strength(np.arange(-top, top + 1) / top)[:, None]
    full = np.where(np.arange(LEVELS)[:, None] < top, AGAINST, FOR)
    mixed: ndarray = np.rint(strength * full + (1 - strength) * np.asarray(backdrop))
    return mixed.astype(np.uint8)


def proposed_scale(relevance: Float[ndarray, "*frames y x"], *, quantile: float = 0.999) -> float:
    """Relevance per pixel at which `quantile` of all pixels are still below full colour, rounded up to two digits.

    NaN where all relevance is zero: there is nothing to scale. Heatmaps compare only on one scale. The default leaves 7
    of the 7,056 pixels of an 84 by 84 map in full colour, about the size of a ball with its surroundings.

    Raises: ValueError when `relevance` has NaN or infinity, or `quantile` is not in (0, 1].
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must lie in (0, 1], got {quantile}: 0.999 leaves one pixel of a thousand saturated")
    _check_finite(relevance)
    amount = np.abs(relevance).ravel()
    rank = max(0, math.ceil(quantile * amount.size) - 1)
    strong = float(np.partition(amount, rank)[rank]) or float(amount.max())
    if strong == 0:
        return math.nan
    digit = 10.0 ** (math.floor(math.log10(strong)) - 1)
    return float(f"{math.ceil(strong / digit * (1 - 1e-6)) * digit:.3g}")


def saturated(relevance: Float[ndarray, "*frames y x"], scale: float) -> float:
    """Fraction of the pixels whose relevance is stronger than `scale`: 0 = the colours show all, 1 = none of it.

    Raises: ValueError when `scale` is not positive or `relevance` has NaN or infinity.
    """
    _check_scale(scale)
    _check_finite(relevance)
    return float(np.mean(np.abs(relevance) > scale))


def _strength(part: Float[ndarray, " level"]) -> Float[ndarray, " level"]:
    """Opacity of the colour: 0 at level 0, 1 at full colour, and a weak level stands out already."""
    strength: ndarray = np.abs(part) ** 0.75
    return strength


def _check_scale(scale: float) -> None:
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive relevance per pixel, got {scale}: take one from proposed_scale")


def _check_finite(relevance: Float[ndarray, "*frames y x"]) -> None:
    if not np.isfinite(relevance).all():
        raise ValueError("relevance must be finite, got NaN or infinity: a picture of it would be a wrong number")
