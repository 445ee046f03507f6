"""What may lie between the explained pixels and Q: which operation is treated how, by its name.

An operation that stands in none of these sets is refused where it carries relevance: a map is right or it is not made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlwatch.attribution.operations.convolution import Convolution
from rlwatch.attribution.operations.layers import Dense


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


WEIGHTS = {"conv2d": 4, "linear": 2, "matmul": 2, "mm": 2, "addmm": 2}
"""The axes of their weights."""

LINEAR_MAPS = frozenset(WEIGHTS)
"""Replaced by the rule that the composite gives them; but a product with a vector is a weighted sum."""

PIECEWISE_LINEAR = _names(
    """relu relu_ leaky_relu leaky_relu_ abs neg negative __neg__
    max_pool1d max_pool2d adaptive_max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d
    max min amax amin maximum minimum sort msort topk kthvalue median quantile
    add add_ __add__ __iadd__ __radd__ sub sub_ __sub__ __isub__ rsub __rsub__ subtract sum mean nanmean cumsum
    view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze squeeze_ unsqueeze_ permute transpose t
    swapaxes movedim moveaxis T__get__ mT__get__ expand expand_as repeat tile repeat_interleave contiguous clone
    cat concat concatenate stack hstack vstack split chunk unbind tensor_split narrow select __getitem__
    index_select gather take_along_dim roll flip where masked_fill masked_fill_ copy_ __setitem__ pad unfold
    broadcast_tensors broadcast_to nan_to_num
    pixel_shuffle pixel_unshuffle channel_shuffle interpolate
    to type type_as float double half bfloat16 cpu cuda"""
)
"""Right under plain differentiation when relevance travels as R / activation; a constant summand absorbs its part."""

ADDITIONS = _names("add __add__ __radd__")
"""A constant per channel that is added to a layer's outputs is that layer's bias."""

SUMS = ADDITIONS | _names(
    """add_ __iadd__ sub sub_ __sub__ __isub__ rsub __rsub__ subtract maximum minimum copy_
    cat concat concatenate stack hstack vstack where"""
)
"""What a summand says of the observations would be left out, be it a whole number or not; so with SCALINGS."""


def _viewed(tensor: Tensor, *shape: Any, **other: Any) -> Tensor:
    """`tensor.view`, which also takes memory of another order than the network expects."""
    if other or isinstance(shape[0], torch.dtype):
        return tensor.view(*shape, **other)
    return tensor.reshape(*shape)


VIEWS: dict[str, Callable[..., Tensor]] = {"view": _viewed, "view_as": Tensor.reshape_as}
"""Views of tensors whose channels lie last in memory, or that are one row many times."""

QUESTIONS = _names(
    """size dim ndimension numel nelement stride is_contiguous is_floating_point is_complex get_device __len__ __repr__
    __format__ __hash__ argmax argmin argsort gt ge lt le eq ne greater less greater_equal less_equal not_equal
    __gt__ __ge__ __lt__ __le__ __eq__ __ne__ isnan isinf isfinite isclose allclose equal all any count_nonzero nonzero
    signbit logical_and logical_or logical_not"""
)
"""Their answers are shapes, orders and truths: no relevance goes through them."""

SCALINGS = _names(
    "mul mul_ __mul__ __imul__ __rmul__ multiply div div_ __div__ __truediv__ __idiv__ true_divide divide prelu"
)
"""Linear as long as one factor is constant; nothing that carries relevance may stand below the fraction bar."""

ACTIVATIONS = _names(
    """tanh tanh_ sigmoid sigmoid_ elu elu_ selu selu_ celu celu_ gelu silu mish softplus softsign log_sigmoid
    threshold _threshold threshold_ _threshold_
    hardtanh hardtanh_ relu6 hardswish hardsigmoid tanhshrink softshrink hardshrink clamp clamp_ clip clip_
    clamp_min clamp_min_ clamp_max clamp_max_"""
)
"""A constant factor, output / input, and what they are at 0 as a bias that absorbs its part."""

LINEARISED = frozenset({"softmax", "log_softmax", "logsumexp"})
"""Replaced by their derivative where they are read: a softmax of logits l sends l_i · ∂score/∂l_i to each. For the
expected value Σ z·p of C51 this is l_i · p_i · (z_i − Q): nothing of it depends on a number that is added to all logits
but how it is shared out, and its sum is the covariance of l and z under p; the rest of Q is absorbed."""

EXPONENTIALS = frozenset({"exp"})
"""LINEARISED where they make probabilities of their logarithms."""

CELLS = frozenset({"lstm_cell", "gru_cell", "lstm", "gru"})
"""Unfolded, see `recurrent`."""

DROPOUTS = _names("dropout dropout_ dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout")
"""Nothing happens here: a network is explained as it acts in evaluation."""

OWN = frozenset({"grad__get__", "_base__get__"})
"""Properties that are older than the pass, and get no mark of it."""

IDENTITIES = frozenset({"detach", "detach_", "data__get__"})
"""They stop gradients, not relevance."""

UNKNOWN_LAYERS = _names("""conv1d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution
    conv_tbc bilinear embedding embedding_bag bmm baddbmm addbmm addmv einsum tensordot inner mv dot
    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell multi_head_attention_forward scaled_dot_product_attention""")
"""They may not be the layer that sees the pixels, nor may another library's operator, such as `quantized::linear`."""

FRAMES = _names("pad cat concat concatenate")
"""They put constants around the observations, such as zeros or planes of coordinates."""

LEAVING = frozenset({"numpy", "tolist", "item", "__array__", "__float__", "__int__", "__bool__", "__iter__"})
"""They take a number out of the network, where nothing can follow it."""

TOLD = LEAVING | _names("requires_grad__get__ grad_fn__get__ is_leaf__get__ __deepcopy__ __reduce_ex__ __dlpack__")
"""What a network is told of its observations by these does not show that they are followed."""

BY_MEMORY = _names("as_strided as_strided_ resize_ resize_as_")
"""Their results depend on the order in memory, which is another one where the network is explained."""

SINGLE = frozenset({"item", "tolist", "__float__", "__int__", "__bool__"})
"""Those of them that training differentiates around, too."""

WRITERS = _names(
    "embedding embedding_bag fused_moving_avg_obs_fake_quant _fused_moving_avg_obs_fq_helper numpy __array__ __dlpack__"
)
"""They may write into what they are given, or let others do so, and are not called so (see `in_place`)."""

WEIGHTED_SUMS = frozenset({"mv", "dot"})
"""Linear as long as one factor is constant, like SCALINGS followed by a sum."""

PRODUCTS = _names("inner bmm einsum tensordot")
"""WEIGHTED_SUMS where the constant factor is a vector, repeated or not."""

GRADIENT_SWITCHES = frozenset({"register_hook", "retain_grad", "requires_grad_", "requires_grad__set__"})
"""Training's business; ignored."""

RANDOM = _names(
    """rand randn randint randperm normal bernoulli multinomial poisson
    normal_ uniform_ bernoulli_ exponential_ random_ cauchy_ geometric_ log_normal_"""
)
"""They take a generator: one of their own, so that training's stays where it is."""

RANDOM_LIKE = {"rand_like": torch.rand, "randn_like": torch.randn}

DRAWING = _names(
    """randint_like binomial _standard_gamma _sample_dirichlet gumbel_softmax kaiming_uniform_ svd_lowrank pca_lowrank
    fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d fractional_max_pool3d_with_indices"""
)
"""They take none, and draw from a global generator."""

FRESH = _names(
    """zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty new_tensor
    rand_like randn_like randint_like"""
)
"""Their result depends on a tensor's shape only."""

STILL = PIECEWISE_LINEAR | QUESTIONS | SCALINGS | ACTIVATIONS | LINEARISED | LINEAR_MAPS | WEIGHTED_SUMS | PRODUCTS
"""They draw no random numbers, whatever others do."""


def name_of(function: Callable[..., Any]) -> str:
    """The name by which this module knows a function; properties end in `__get__` or `__set__`.

    An operator of another library than torch's own has the library's name before it, as in `quantized::linear`; one for
    certain types is called as it is for all.
    """
    function = getattr(function, "overloadpacket", function)
    name: str = getattr(function, "__name__", repr(function))
    operator: str = getattr(function, "_qualified_op_name", "aten::")
    if not operator.startswith("aten::"):
        return operator
    if name in {"__get__", "__set__"}:
        return f"{getattr(function, '__self__').__name__}{name}"  # noqa: B009 - a method-wrapper's owner is untyped
    return name


def in_place(name: str, arguments: dict[str, Any]) -> bool:
    """True if the function writes into its first argument or into `out=`."""
    if name.endswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name not in {"__iter__", "__int__", "__invert__"})
    return name.endswith("_") or bool(arguments.get("inplace")) or arguments.get("out") is not None


def target_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a function that is `in_place` writes into."""
    out = kwargs.get("out")
    target: Tensor = (args[0] if args else next(iter(kwargs.values()))) if out is None else out
    return target


def written_by(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """What a function that is `in_place` has written to: its target, and what that is a view of."""
    target = target_of(args, kwargs)
    return [target] if target._base is None else [target, target._base]  # noqa: SLF001 - how autograd knows it, too


def tensors_in(values: Any) -> list[Tensor]:
    """Every tensor in nested tuples, lists and dicts."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    if not isinstance(values, (tuple, list)):
        return []
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list, dict)):
            found += tensors_in(value)
    return found


def replaced(values: Any, replacement: Callable[[Tensor], Tensor]) -> Any:
    """`values` with every tensor in it replaced."""
    if isinstance(values, Tensor):
        return replacement(values)
    if isinstance(values, (tuple, list)):
        parts = [replaced(value, replacement) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else type(values)(parts)
    if isinstance(values, dict):
        return {key: replaced(value, replacement) for key, value in values.items()}
    return values


LinearCall = tuple[Convolution | Dense, Tensor, Tensor, Tensor | None, list[int]]
"""Map, inputs, weight, bias, and what to pad the inputs with before."""


def linear_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LinearCall:
    """A call of one of LINEAR_MAPS, taken apart.

    Raises: NotImplementedError when both factors of a product are stacks of matrices.
    """
    if name == "conv2d":
        return _conv2d(*args, **kwargs)
    if name == "linear":
        return _linear(*args, **kwargs)
    return _addmm(*args, **kwargs) if name == "addmm" else _matmul(*args, **kwargs)


def weights_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The second factor of a call of one of LINEAR_MAPS."""
    place = 2 if name == "addmm" else 1
    named = (kwargs[key] for key in ("weight", "other", "mat2") if key in kwargs)
    weights: Tensor = args[place] if len(args) > place else next(named)
    return weights


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> LinearCall:  # noqa: A002 - torch's name
    return Dense(), input, weight, bias, []


def _matmul(input: Tensor, other: Tensor, **rest: Any) -> LinearCall:  # noqa: A002 - torch's name
    other = rest.pop("mat2", other)
    if other.ndim != 2 or rest:  # noqa: PLR2004 - a matrix
        raise NotImplementedError(
            f"LRP knows products with a matrix of weights, got factors of shape {tuple(input.shape)} and "
            f"{tuple(other.shape)}: write the layer with torch.nn.functional.linear, or use method='gradient_x_input'"
        )
    return Dense(), input, other.t(), None, []


def _addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> LinearCall:  # noqa: A002
    return Dense(), mat1, mat2.t() * alpha, input * beta, []


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


def _conv2d(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | str | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> LinearCall:
    before: list[int] = []
    if padding == "valid":
        padding = 0
    elif isinstance(padding, str):
        left, right, top, bottom = _same(weight, _pair(dilation))
        even = (left, top) == (right, bottom)
        padding, before = ((top, left), []) if even else (0, [left, right, top, bottom])
    return Convolution(_pair(stride), _pair(padding), _pair(dilation), groups), input, weight, bias, before


def _same(weight: Tensor, dilation: tuple[int, int]) -> list[int]:
    """What functional.pad adds at the left, right, top and bottom for padding='same'."""
    rows, columns = dilation[0] * (weight.shape[2] - 1), dilation[1] * (weight.shape[3] - 1)
    return [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
