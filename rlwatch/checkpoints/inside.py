"""Which weights of a file are the Q-network's, where others stand beside them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

Named = dict[str, Mapping[str, Any]]

WRAPPED = ("model", "state_dict", "model_state_dict", "q_network")
"""What a state dict is called among what else a file holds; the third by PyTorch's own tutorial."""
COPY = re.compile(r"(^|_)(target\w*|tgt|ema|old)(_|$)")
"""What a copy that lags behind the Q-network is called."""
STEPS = ("step", "global_step", "timesteps", "num_timesteps")
"""What the step is called that a file was saved at."""
DEEPEST = 4
"""Dicts in which a state dict stands at most."""


def network_in(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The weights of the one network in a file, and the names of its copies, which are left out.

    A file that holds none with convolutions is handed back as it is.

    Raises: ValueError when it holds several networks, of which none is known as the one that learns.
    """
    found = dict(_networks(content, ""))
    taken, weights = _meant(found) if found else ("", _wrapped(content))
    own = {name: value for name, value in weights.items() if not _is_copy(str(name))}
    if not _has_convolutions(own):
        own = dict(weights)
    within = sorted({_copy(str(name)) for name in weights.keys() - own.keys()})
    return own, [*(name for name in found if name != taken and _is_copy(name)), *within]


def step_in(content: Mapping[str, Any]) -> Any:
    """What a file tells as its step, by the first of `STEPS` that stands for a number or a word; -1 where none does."""
    told = (content[name] for name in STEPS if name in content)
    return next((one for one in told if isinstance(one, (int, float, str, np.generic)) or _is_scalar(one)), -1)


def number(kind: type[Any], name: str, told: Any) -> Any:
    """What a file tells as a number, of this kind; a whole one as an event file can hold it.

    Raises: ValueError when it is no number of this kind.
    """
    try:
        return float(told) if kind is float else int(np.array(_whole(told), np.int64))
    except (TypeError, ValueError, OverflowError):
        expected = "a whole number below 2**63" if kind is int else "a number"
        raise ValueError(f"expected as its {name} {expected}, got {told!r:.40}: leave it out of the file") from None


def _whole(told: Any) -> int:
    whole = int(told)
    if not isinstance(told, str) and whole != told:
        raise ValueError(f"{told} has a fraction")
    return whole


def _meant(found: Named) -> tuple[str, Mapping[str, Any]]:
    learning = {name: weights for name, weights in found.items() if not _is_copy(name)} or found
    name = next(name for name in (*WRAPPED, *learning) if name in learning)
    if len(learning) > 1 and name not in WRAPPED:
        way = "".join(f"[{part!r}]" for part in name.split("."))
        raise ValueError(
            f"holds several networks, {', '.join(map(repr, learning))}: save the one that is meant by itself, such as "
            f"torch.save(torch.load(FILE){way}, 'one.pt')"
        )
    return name, learning[name]


def _wrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((content[name] for name in WRAPPED if isinstance(content.get(name), Mapping)), content)


def _networks(content: Mapping[Any, Any], before: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The state dicts with convolutions, by their names joined with dots."""
    if _has_convolutions(content):
        yield before, content
    elif before.count(".") < DEEPEST:
        for name, value in content.items():
            if isinstance(value, Mapping):
                yield from _networks(value, f"{before}.{name}" if before else str(name))


def _has_convolutions(weights: Mapping[Any, Any]) -> bool:
    return any(
        isinstance(value, (Tensor, np.ndarray)) and value.ndim == 4 and "weight" in str(name)  # noqa: PLR2004 - out, in, y, x
        for name, value in weights.items()
    )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0


def _is_copy(name: str) -> bool:
    return any(COPY.search(part) for part in name.split("."))


def _copy(name: str) -> str:
    """The beginning of a name, up to what says that it is a copy's."""
    parts = name.split(".")
    last = next(index for index, part in enumerate(parts) if COPY.search(part))
    return ".".join(parts[: last + 1])
