"""Ghosts: where a background holds a thing that is not there, so that bare ground stands out from it."""

import numpy as np
from jaxtyping import Bool, Int, UInt8

OFTEN = 16
"""Screens in which ghosts must show the ground of a pixel for it to be put into the plate."""
BACK = 0.1
"""How many screens there must be, for each of these, in which what was missing is back."""

_NEIGHBOURS = (np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])


def ghosts(
    labels: Int[np.ndarray, "y x"], screen: UInt8[np.ndarray, "y x"], plate: UInt8[np.ndarray, "y x"]
) -> Bool[np.ndarray, " label"]:
    """Which of a screen's numbered sets of pixels are ghosts: those whose rim is drawn in the plate, not in the screen.

    Where a thing is, colours change at its rim, which they do not in its ground; where a thing of the plate is missing,
    it is the other way round: more pixels of the rim have their neighbour's colour than in the plate. 0 is no set.
    Source: Cucchiara et al. 2003, doi 10.1109/TPAMI.2003.1233909, tell ghosts by their lack of motion; the rim also
    tells those among what stands still.
    """
    bare = np.zeros(labels.max() + 1)
    for one, other in _NEIGHBOURS:
        rim = labels[one] != labels[other]
        now, then = ((picture[one] == picture[other])[rim].astype(int) for picture in (screen, plate))
        for side in (labels[one][rim], labels[other][rim]):
            bare += np.bincount(side, now - then, minlength=len(bare))
    bare[0] = 0
    return bare > 0


def bared(
    plate: UInt8[np.ndarray, "y x"],
    screens: UInt8[np.ndarray, "screen y x"],
    missing: Bool[np.ndarray, "screen y x"],
    segment: Int[np.ndarray, " screen"],
) -> UInt8[np.ndarray, "y x"]:
    """The plate of some screens with the ground in it that ghosts show, where what was missing comes back.

    A floe comes back within a segment, a brick that was hit does not: a wall stays in the plate. `missing`: the pixels
    of ghosts.
    """
    times, back = missing.sum(axis=0), np.zeros(plate.shape, int)
    for one in np.unique(segment):
        own = segment == one
        back += (np.logical_or.accumulate(missing[own]) & (screens[own] == plate)).sum(axis=0)
    ground = plate.copy()
    for y, x in np.argwhere((times >= OFTEN) & (back >= BACK * times)):
        ground[y, x] = np.bincount(screens[missing[:, y, x], y, x]).argmax()
    return ground
