"""Methods that read the derivative of a score as it is."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

Picture = Float[Tensor, "probe ..."]
"""Of the two arguments each method takes the memory of the gradient."""


def gradient_x_input(pixels: Picture, gradient: Picture) -> Picture:
    """Gradient × input: what each pixel adds to a linearised score; sums to the score without biases in a ReLU network.

    Source: Shrikumar et al. 2016, arXiv 1605.01713.
    """
    return gradient.mul_(pixels)


def sensitivity(pixels: Picture, gradient: Picture) -> Picture:  # noqa: ARG001 - every method gets both
    """Squared gradient: how fast the score changes with each pixel, never negative; it adds up to nothing.

    Source: Simonyan et al. 2014, arXiv 1312.6034.
    """
    return gradient.square_()


GradientMethod = Callable[[Picture, Picture], Picture]

GRADIENT_METHODS: dict[str, GradientMethod] = {"gradient_x_input": gradient_x_input, "sensitivity": sensitivity}
