"""Composites: which rule each layer gets. Names and rules are zennit's."""

from __future__ import annotations

from dataclasses import dataclass

from rlwatch.attribution.lrp.pixel_rules import Flat, ZBox
from rlwatch.attribution.lrp.rules import AlphaBeta, Epsilon, Gamma, Rule, ZPlus
from rlwatch.attribution.operations.layers import Layer


@dataclass(frozen=True)
class Composite:
    """A rule for convolutions, one for dense layers and, where it differs, one for the layer that sees the pixels.

    Any function from a `Layer` to a rule is a composite too; this is the usual one.
    """

    convolution: Rule
    dense: Rule
    first: Rule | None = None

    def __call__(self, layer: Layer) -> Rule:
        """The rule of `layer`."""
        if layer.first and self.first is not None:
            return self.first
        return self.convolution if layer.kind == "convolution" else self.dense


COMPOSITES: dict[str, Composite] = {
    # Bach et al. 2015, doi:10.1371/journal.pone.0130140
    "epsilon": Composite(convolution=Epsilon(), dense=Epsilon()),
    # Lapuschkin et al. 2019, doi:10.1038/s41467-019-08987-4
    # Kohlbrenner et al. 2020, doi:10.1109/ijcnn48605.2020.9206975
    "epsilon_plus": Composite(convolution=ZPlus(), dense=Epsilon()),
    "epsilon_plus_flat": Composite(convolution=ZPlus(), dense=Epsilon(), first=Flat()),
    "epsilon_alpha2_beta1": Composite(convolution=AlphaBeta(2.0, 1.0), dense=Epsilon()),
    "epsilon_alpha2_beta1_flat": Composite(convolution=AlphaBeta(2.0, 1.0), dense=Epsilon(), first=Flat()),
    # Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10
    "epsilon_gamma_box": Composite(convolution=Gamma(0.25), dense=Epsilon(), first=ZBox()),
    # Zhang et al. 2016, doi:10.1007/978-3-319-46493-0_33
    "excitation_backprop": Composite(convolution=ZPlus(), dense=ZPlus()),
    # Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008
    "deep_taylor": Composite(convolution=ZPlus(), dense=ZPlus(), first=ZBox()),
}
