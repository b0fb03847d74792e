"""The torch functions of which bounds are known, by one name each, whichever way a model calls them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.errors import ModelError


def _named(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHAPES = _named(
    "view reshape view_as flatten unflatten transpose permute movedim swapaxes swapdims t squeeze unsqueeze expand "
    "expand_as repeat repeat_interleave tile getitem select slice narrow index_select mean sum avg_pool1d avg_pool2d "
    "avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d cat concat concatenate stack pad chunk split "
    "split_with_sizes tensor_split unbind roll flip pixel_shuffle pixel_unshuffle cumsum unsafe_split "
    "unsafe_view reflection_pad2d constant_pad_nd channel_shuffle"
)
"""Affine steps whose coefficients are nowhere negative: both ends of an interval go through them alike."""
IDENTITIES = _named(
    "contiguous clone detach alias to float double half bfloat16 type_as identity dropout dropout2d data"
)
"""Steps that change no value; dropout is one in evaluation mode."""
FACTORS = _named("linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d mul div matmul bmm mm")
"""Steps that multiply by something; affine where that is fixed."""
SUMS = _named("add sub rsub neg")
KINKED = _named("relu leaky_relu relu6 hardtanh clamp clip hardsigmoid abs")
"""Curves made of straight pieces."""
SMOOTH = _named("sigmoid tanh gelu silu softplus elu")
MAXIMA = _named("max_pool1d max_pool2d adaptive_max_pool2d amax")
MIXED = _named("softmax attend layer_norm group_norm scaled_dot_product_attention square pow exp")
"""Steps that mix values, or bend; some have lines as well (see `mixing`)."""
KNOWN = SHAPES | IDENTITIES | FACTORS | SUMS | KINKED | SMOOTH | MAXIMA | MIXED | {"batch_norm", "input"}
SIZES = _named(
    "shape size dim ndim dtype device numel nelement stride is_contiguous len is_floating_point is_cuda layout "
    "requires_grad is_complex is_quantized is_sparse is_meta names type itemsize nbytes get_device is_nested "
    "is_inference storage_offset is_mkldnn is_leaf repr format element_size"
)
"""What may be asked of a tensor without looking at its values."""
ALIASES = {
    "iadd": "add",
    "radd": "add",
    "isub": "sub",
    "subtract": "sub",
    "imul": "mul",
    "rmul": "mul",
    "multiply": "mul",
    "truediv": "div",
    "itruediv": "div",
    "divide": "div",
    "true_divide": "div",
    "negative": "neg",
    "rmatmul": "matmul",
    "relu_": "relu",
    "clamp_min": "clamp",
    "clamp_max": "clamp",
    "T": "t",
    "mT": "t",
    "max_pool2d_with_indices": "max_pool2d",
    "native_dropout": "dropout",
    "hardtanh_": "hardtanh",
    "_softmax": "softmax",
    "_unsafe_view": "unsafe_view",
    "feature_dropout": "dropout",
    "lift_fresh_copy": "clone",
}
"""Other names of the same steps."""


def canonical(func: Any) -> str:
    """The one name of a torch function, of a tensor's method or property, or of an exported program's operator."""
    name = str(getattr(func, "__name__", func)).split(".")[0]
    if name == "__get__":
        name = str(func.__self__.__name__)
    elif name == "_max_pool2d":
        name = "max_pool2d"
    elif name.startswith("__") and name.endswith("__"):
        name = name[2:-2]
    name = ALIASES.get(name, name)
    bare = name.removesuffix("_")
    return ALIASES.get(bare, bare)


def outward(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the function changes its first argument in place."""
    name = str(getattr(func, "__name__", "")).split(".")[0]
    dunder = name.startswith("__")
    in_place = (dunder and name[2:] in {"iadd__", "isub__", "imul__", "itruediv__"}) or (
        not dunder and name.endswith("_")
    )
    return (
        in_place
        or bool(kwargs.get("inplace"))
        or (name in INPLACE and len(args) > INPLACE[name] and bool(args[INPLACE[name]]))
    )


INPLACE = {"relu": 1, "leaky_relu": 2, "elu": 2, "silu": 1, "hardtanh": 3, "relu6": 1, "dropout": 3, "hardsigmoid": 1}
"""Where functions take their flag `inplace`."""


def inner(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], ndim: int) -> list[int]:
    """The axes whose values a step mixes, where it is none that only moves and adds."""
    if name.startswith("conv") or name in {"batch_norm", "group_norm"} or "pool" in name:
        return list(range(1, ndim))
    if name in {"matmul", "bmm", "attend", "scaled_dot_product_attention"}:
        return [-1, -2] if ndim > 2 else [-1]
    if name == "softmax":
        return [int(kwargs.get("dim", args[1] if len(args) > 1 else -1))]
    if name == "layer_norm":
        return [-1 - i for i in range(len(kwargs.get("normalized_shape", args[1])))]
    if name == "amax":
        return list(range(1, ndim))
    return [-1] if name in {"linear", "mm"} else []


def settled(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], Any]:
    """The same step as a function without side effects, and BatchNorm with the statistics that it will use."""
    raw = str(getattr(func, "__name__", "")).split(".")[0]
    if name == "batch_norm":
        return _batch_norm(func, args, kwargs)
    if name == "dropout" and (kwargs.get("training", args[2] if len(args) > 2 else not raw)):
        raise ModelError("a dropout layer is in training mode; call model.eval() before bounding the model")
    if outward(func, args, kwargs) and (raw.endswith("_")):
        func = getattr(Tensor, name if raw.startswith("__") else raw[:-1])
    kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
    if name in INPLACE and len(args) > INPLACE.get(raw, 99):
        args = (*args[: INPLACE[raw]], False, *args[INPLACE[raw] + 1 :])
    return func, args, kwargs


def _batch_norm(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], Any]:
    """BatchNorm as a map of each channel, by its running statistics, or in training by those of this batch."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    if "aten" in str(func) or func is torch.batch_norm:
        names = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps", "cudnn")
    given: dict[str, Any] = dict(zip(names, args, strict=False)) | kwargs
    x, eps = given["input"], given.get("eps", 1e-5)
    mean, var = given.get("running_mean"), given.get("running_var")
    if given.get("training") or mean is None or var is None:
        value = x.as_subclass(Tensor)
        if mean is not None:  # keep the books of the layer as a usual pass does
            F.batch_norm(value.detach(), mean, var, training=True, momentum=given.get("momentum", 0.1), eps=eps)
        axes = [axis for axis in range(value.ndim) if axis != 1]
        mean, var = value.mean(axes), value.var(axes, correction=0)
    return channelwise, (x, mean, var, given.get("weight"), given.get("bias"), eps), {}


def channelwise(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalised by the statistics of each channel (axis 1), then scaled and shifted."""
    factor = scale(var, weight, eps)
    return along(factor, x) * x + along((0 if bias is None else bias) - mean * factor, x)


def scale(var: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """What each channel is multiplied by."""
    return (var + eps).rsqrt() * (1 if weight is None else weight)


def along(value: Tensor, x: Tensor) -> Tensor:
    """One value a channel, in the shape that goes with x."""
    return value.reshape(1, -1, *[1] * (x.ndim - 2))
