"""What each tag means, for the person who reads its chart, and which tags stand in one chart."""

import re
from collections.abc import Sequence

Layout = dict[str, dict[str, tuple[str, list[str]]]]
"""Category to chart to kind ("Multiline" or "Margin") and tags, as torch's `custom_scalars` takes it."""

LINES = 4
"""Lines per chart: TensorBoard colours them by run, so more of them cannot be told apart."""

_TARGETS = {
    "greedy": "the value of the best action",
    "contrast": "the choice, best action minus the mean of the others",
}
_BY_OBJECT = {
    "lift": (
        "Mean positive relevance of a pixel of {name} divided by that of all pixels. "
        "1: no preference, 0: ignored, 8: eight times the average. Source: Lapuschkin et al. 2019"
    ),
    "lift_low": "Lower end of the 95 % interval of the lift of {name}, by bootstrap over the probe's episodes",
    "lift_high": "Upper end of the 95 % interval of the lift of {name}, by bootstrap over the probe's episodes",
    "share": "Part of all positive relevance that lies on {name}. 0: none, 1: all; large objects get more",
    "share_negative": "Part of all negative relevance (what speaks against) that lies on {name}. 0: none, 1: all",
    "relevance": "Positive relevance on {name} per frame in which it is visible, in Q units",
    "untrained": "Lift of {name} in the same network with random weights: the baseline. 1: no preference",
    "stack": "Part of the positive relevance on one stacked frame: +0 is the newest. Four equal frames: 0.25 each",
}
_BY_MAP = {
    "gini": "Gini coefficient of the positive relevance over pixels. 0: spread evenly, 1: all on one pixel",
    "entropy": "Entropy of the positive relevance over pixels, as a fraction. 1: spread evenly, 0: all on one pixel",
    "centre_y": "Centre of the positive relevance, in pixels from the top",
    "centre_x": "Centre of the positive relevance, in pixels from the left",
    "conservation": "Sum of relevance divided by the sum of what is explained. 1: the maps tell all of it",
    "absorbed": "Mean part of what is explained that biases and stabilisers took, in Q units. 0: none",
    "score": "Mean of what is explained, in Q units",
    "unnamed": "Part of all positive relevance that lies on none of the objects. 0: none, 1: all",
    "drift_spearman": "Rank correlation with the maps of the checkpoint before. 1: unchanged, 0: unrelated",
    "drift_cosine": "Cosine with the maps of the checkpoint before. 1: unchanged, 0: unrelated, -1: turned round",
}
_PLAIN = {
    "q/greedy": "Q-value of the best action, mean over the probe",
    "q/gap": "Q-value of the best action minus that of the second best, mean over the probe. 0: no preference",
    "q/spread": "Standard deviation of the Q-values over the actions, mean over the probe",
    "q/churn": "Part of the probe's frames whose best action changed since the checkpoint before. 0: none, 1: all",
    "returns/told": "Return that the training told the monitor last, in the game's points",
    "cost/fraction": "Part of the wall clock that the monitor has taken so far. 0.01: one percent",
}
_CHECKS = {  # the longest beginning of a name that is here describes it
    "randomised": "Rank correlation with the maps once layers are drawn anew from the output down to {part}. "
    "1: the maps do not depend on these layers, 0: unrelated, -1: reversed. Source: Adebayo et al. 2018",
    "ssim": "Structural similarity with the maps once layers are drawn anew from the output down to {part}. "
    "1: the maps do not depend on these layers. Source: Adebayo et al. 2018",
    "action": "Rank correlation with the maps of the second-best action. 1: the maps do not depend on the action",
    "shift": "Rank correlation with the maps of the picture moved by one pixel, moved back. 1: the maps move along",
    "agreement": "Rank correlation with the maps of another composite. 1: both say the same, 0: unrelated",
    "conservation": "Sum of relevance divided by the sum of what is explained. 1: the maps tell all of it",
    "gain": "By how much flipping pixels in the maps' order beats random orders, as a part of how far the score moves. "
    "0: no better than chance, 1: at once",
    "gain_low": "Lower end of the 95 % interval of the gain, by bootstrap over episodes. Not above 0: no power",
    "gain_high": "Upper end of the 95 % interval of the gain, by bootstrap over episodes",
    "deletion": "Gain over random orders where pixels are replaced by those of the start: {part}. 0: as by chance",
    "insertion": "Gain over random orders where pixels are brought back into the start: {part}. 0: as by chance",
    "pointing": "Part of the frames whose most relevant pixel lies on what moves: {part}. Compare with its chance",
    "mass": "Part of the positive relevance that lies on what moves: {part}. Compare with its chance",
    "chance": "Part of the picture that is what moves: {part}. Pointing and mass of a map that knows nothing",
}
_FAMILIES = {
    "cost": "Seconds of wall clock that this part of the monitor took at this checkpoint",
    "causal": "Change of the Q-values when {name} is changed in the emulator or painted over, in Q units. 0: no effect",
    "compare": "Interquartile mean of {name} over the seeds of a variant: lift of an object (1: no preference), or "
    "returns in the game's points. Source: Agarwal et al. 2021",
    "compare_low": "Lower end of the 95 % interval of {name} over the seeds of a variant, by stratified bootstrap",
    "compare_high": "Upper end of the 95 % interval of {name} over the seeds of a variant, by stratified bootstrap",
    "alarm": "1: the alarm rings at this checkpoint, 0: it does not",
}


def description(tag: str) -> str:
    """One or two sentences on a tag: its unit and what 0 and 1 mean; empty for a tag that is not rlwatch's."""
    top, *path = tag.split("/")
    if top != "rlwatch" or len(path) < 2:  # noqa: PLR2004 - a family and a name
        return ""
    family, *middle, name = path
    if f"{family}/{name}" in _PLAIN and not middle:
        return _PLAIN[f"{family}/{name}"] + "."
    if family == "validity":
        return _check_description(name)
    if family in _FAMILIES:
        return _FAMILIES[family].format(name=name) + "."
    sentence = _BY_MAP.get(name, "") if family == "map" else _BY_OBJECT.get(family, "").format(name=name)
    if not sentence or not middle:
        return ""
    return f"{sentence}. Explained: {_TARGETS.get(middle[0], middle[0])}."


def _check_description(name: str) -> str:
    check, _, target = name.rpartition("_")
    known = max((known for known in _CHECKS if f"{check}_".startswith(f"{known}_")), key=len, default="")
    if not known:
        return ""
    part = check.removeprefix(known).removeprefix("_")
    return f"{_CHECKS[known].format(part=part)}. Explained: {_TARGETS.get(target, target)}."


def clip_description(target: str) -> str:
    """What to see in the clip of a target."""
    explained = _TARGETS.get(target)
    heat = f" for {explained}" if explained else ""
    return (
        f"Red pixels speak for, blue ones against{heat}; the scale, in Q per pixel, is printed and holds for the run."
    )


def layout(objects: Sequence[str], targets: Sequence[str]) -> Layout:
    """The charts of the Custom Scalars tab: lifts side by side, each against its baseline, each with its interval."""
    side_by_side: dict[str, tuple[str, list[str]]] = {}
    baseline: dict[str, tuple[str, list[str]]] = {}
    interval: dict[str, tuple[str, list[str]]] = {}
    for target in targets:
        for begin in range(0, len(objects), LINES):
            some = objects[begin : begin + LINES]
            lines = [_exactly(f"rlwatch/lift/{target}/{name}") for name in some]
            side_by_side[f"{target}: {', '.join(some)}"] = "Multiline", lines
        for name in objects:
            here = f"{target}/{name}"
            lines = [_exactly(f"rlwatch/{family}/{here}") for family in ("lift", "untrained")]
            baseline[f"{target}: {name}"] = "Multiline", lines
            interval[f"{target}: {name}"] = (
                "Margin",
                [f"rlwatch/{end}/{here}" for end in ("lift", "lift_low", "lift_high")],
            )
    return {
        "rlwatch: lift of each object (1 = no preference)": side_by_side,
        "rlwatch: lift against the untrained network": baseline,
        "rlwatch: lift with its 95 % interval": interval,
    }


def _exactly(tag: str) -> str:
    """A pattern that only this tag matches."""
    return f"^{re.escape(tag)}$"
