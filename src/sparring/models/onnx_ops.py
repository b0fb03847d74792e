"""What the operators of ONNX mean, in torch, so that a graph has gradients.

Each takes the node's attributes and its inputs (None where one is left out), across the versions of its definition in
which attributes became inputs. Whole numbers, such as shapes, stay on the CPU.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.models.onnx_layers import (
    Attributes,
    average_pool,
    batch_norm,
    conv,
    conv_transpose,
    depth_to_space,
    group_norm,
    layer_norm,
    max_pool,
    pad,
    resize,
    space_to_depth,
    whole,
)

Operator: TypeAlias = Callable[..., Any]
Pair: TypeAlias = Callable[[Tensor, Tensor], Tensor]

TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""Torch's types by ONNX's numbers."""


def axes_of(a: Attributes, given: Tensor | None) -> list[int] | None:
    found = given if given is not None else a.get("axes")
    return None if found is None else whole(found)


def gemm(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    x, w = x.T if a.get("transA", 0) else x, w.T if a.get("transB", 0) else w
    out = a.get("alpha", 1.0) * (x @ w) if a.get("alpha", 1.0) != 1.0 else x @ w
    return out if b is None else out + a.get("beta", 1.0) * b


def softmax(a: Attributes, x: Tensor, run: Callable[..., Tensor] = torch.softmax) -> Tensor:
    if a["version"] >= 13:
        return run(x, a.get("axis", -1))
    axis = a.get("axis", 1) % x.ndim  # all axes from there on are one
    return run(x.flatten(axis), axis).reshape(x.shape)


def reducer(run: Callable[[Tensor, list[int], bool], Tensor]) -> Operator:
    def apply(a: Attributes, x: Tensor, given: Tensor | None = None) -> Tensor:
        axes = axes_of(a, given)
        if not axes:
            if a.get("noop_with_empty_axes", 0):
                return x
            axes = list(range(x.ndim))
        return run(x, axes, bool(a.get("keepdims", 1)))

    return apply


def reshape(a: Attributes, x: Tensor, given: Tensor | None = None) -> Tensor:
    shape = whole(a["shape"] if given is None else given)
    if not a.get("allowzero", 0):
        shape = [x.shape[i] if side == 0 else side for i, side in enumerate(shape)]
    return x.reshape(shape)


def flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def squeeze(a: Attributes, x: Tensor, given: Tensor | None = None) -> Tensor:
    axes = axes_of(a, given)
    return x.squeeze() if axes is None else x.squeeze(axes)


def unsqueeze(a: Attributes, x: Tensor, given: Tensor | None = None) -> Tensor:
    axes = axes_of(a, given) or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def piece(a: Attributes, x: Tensor, *given: Tensor | None) -> Tensor:
    """Slice: where, up to where, along which axes, in which steps."""
    inputs = [None if one is None else whole(one) for one in given]
    if not inputs:
        inputs = [list(a["starts"]), list(a["ends"]), a.get("axes")]
    starts, ends, axes, steps = (*inputs, None, None)[:4]
    assert starts is not None
    assert ends is not None
    for i, axis in enumerate(axes if axes is not None else range(len(starts))):
        step = 1 if steps is None else steps[i]
        if step < 0:  # torch has no steps back
            places = list(range(x.shape[axis])[starts[i] : ends[i] : step])
            x = x.index_select(axis, torch.tensor(places, device=x.device))
        else:
            x = x[(*[slice(None)] * (axis % x.ndim), slice(*slice(starts[i], ends[i], step).indices(x.shape[axis])))]
    return x


def split(a: Attributes, x: Tensor, given: Tensor | None = None) -> Sequence[Tensor]:
    sizes, axis = given if given is not None else a.get("split"), a.get("axis", 0)
    if sizes is not None:
        return x.split(whole(sizes), axis)
    return x.split(-(-x.shape[axis] // a["outputs"]), axis)


def gather(a: Attributes, x: Tensor, places: Tensor) -> Tensor:
    axis = a.get("axis", 0) % x.ndim
    places = places.to(x.device)
    places = torch.where(places < 0, places + x.shape[axis], places)
    found = x.index_select(axis, places.flatten())
    return found.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least, most = a.get("min") if low is None else low.to(x.device), a.get("max") if high is None else high.to(x.device)
    return x if least is None and most is None else x.clamp(least, most)  # pyright: ignore[reportArgumentType]: of one kind


def fill(a: Attributes, shape: Tensor) -> Tensor:
    value = a.get("value", torch.zeros(1))
    return torch.full(whole(shape), value.item(), dtype=value.dtype)


def expand(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, whole(shape)))


def where(a: Attributes, chosen: Tensor, x: Tensor, y: Tensor) -> Tensor:
    place = x.device if x.device.type != "cpu" else y.device
    return torch.where(chosen.to(place), x.to(place), y.to(place))


def count(a: Attributes, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def concat(a: Attributes, *given: Tensor) -> Tensor:
    place = next((one.device for one in given if one.device.type != "cpu"), given[0].device)
    return torch.cat([one.to(place) for one in given], a["axis"])


def einsum(a: Attributes, *given: Tensor) -> Tensor:
    return torch.einsum(a["equation"].decode(), *given)


def same(a: Attributes, x: Tensor, *_: Tensor | None) -> Tensor:
    return x


def tile(a: Attributes, x: Tensor, times: Tensor) -> Tensor:
    return x.repeat(whole(times))


def cast_like(a: Attributes, x: Tensor, like: Tensor) -> Tensor:
    return x.to(like.dtype)


def instance_norm(a: Attributes, x: Tensor, scale: Tensor, b: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=b, eps=a.get("epsilon", 1e-5))


def local_response(a: Attributes, x: Tensor) -> Tensor:
    return F.local_response_norm(x, a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0))


def product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def divide(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def leaky(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * slope)


def pairwise(run: Pair) -> Operator:
    """An operator of two or more inputs; a constant comes from the CPU to where the others are."""

    def two(x: Tensor, y: Tensor) -> Tensor:
        return run(x.to(y.device), y) if y.device.type != "cpu" else run(x, y.to(x.device))

    def apply(a: Attributes, *given: Tensor) -> Tensor:
        return reduce(two, given)

    return apply


def unary(run: Callable[[Tensor], Tensor]) -> Operator:
    def apply(a: Attributes, x: Tensor) -> Tensor:
        return run(x)

    return apply


ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs, "Ceil": torch.ceil, "Cos": torch.cos, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor,
    "HardSwish": F.hardswish, "Identity": lambda x: x, "Log": torch.log, "Mish": F.mish,
    "Neg": torch.neg, "Not": torch.logical_not, "Reciprocal": torch.reciprocal, "Relu": F.relu, "Round": torch.round,
    "Selu": F.selu, "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Softplus": F.softplus,
    "Softsign": F.softsign, "Sqrt": torch.sqrt, "Tanh": torch.tanh,
    "GlobalAveragePool": lambda x: x.mean(list(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda x: x.amax(list(range(2, x.ndim)), keepdim=True), "Size": lambda x: torch.tensor(x.numel()),
}  # fmt: skip
TWO: dict[str, Pair] = {
    "Add": torch.add, "And": torch.logical_and, "Div": divide, "Equal": torch.eq, "Greater": torch.gt,
    "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le, "MatMul": torch.matmul, "Max": torch.maximum,
    "Min": torch.minimum, "Mod": torch.remainder, "Mul": torch.mul, "Or": torch.logical_or, "PRelu": leaky,
    "Pow": torch.pow, "Sub": torch.sub, "Sum": torch.add,
}  # fmt: skip
REDUCED: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keep), "ReduceLogSumExp": torch.logsumexp,
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keep).sqrt(), "ReduceMax": torch.amax,
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keep), "ReduceMin": torch.amin, "ReduceProd": product,
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keep),
}  # fmt: skip
SET: dict[str, Callable[[Attributes, Tensor], Tensor]] = {
    "ArgMax": lambda a, x: x.argmax(a.get("axis", 0), bool(a.get("keepdims", 1))),
    "ArgMin": lambda a, x: x.argmin(a.get("axis", 0), bool(a.get("keepdims", 1))),
    "Cast": lambda a, x: x.to(TYPES[a["to"]]), "Celu": lambda a, x: F.celu(x, a.get("alpha", 1.0)),
    "DepthToSpace": depth_to_space, "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)), "Flatten": flatten,
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", b"none").decode()),
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "LRN": local_response, "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "LogSoftmax": lambda a, x: softmax(a, x, torch.log_softmax), "Softmax": softmax,
    "Shape": lambda a, x: torch.tensor(list(x.shape)[a.get("start", 0) : a.get("end")], dtype=torch.int64),
    "SpaceToDepth": space_to_depth,
    "Transpose": lambda a, x: x.permute(a.get("perm", list(reversed(range(x.ndim))))),
}  # fmt: skip
OPERATORS: dict[str, Operator] = {
    **{name: unary(run) for name, run in ONE.items()},
    **{name: pairwise(run) for name, run in TWO.items()},
    **{name: reducer(run) for name, run in REDUCED.items()},
    **SET,
    "AveragePool": average_pool, "BatchNormalization": batch_norm, "CastLike": cast_like, "Clip": clip,
    "Concat": concat, "ConstantOfShape": fill, "Conv": conv, "ConvTranspose": conv_transpose, "Dropout": same,
    "Einsum": einsum, "Expand": expand, "Gather": gather, "Gemm": gemm, "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm, "LayerNormalization": layer_norm, "MaxPool": max_pool, "Pad": pad,
    "Range": count, "Reshape": reshape, "Resize": resize, "Slice": piece, "Split": split, "Squeeze": squeeze,
    "Tile": tile, "Unsqueeze": unsqueeze, "Upsample": resize, "Where": where,
}  # fmt: skip
"""By their names. Those of other domains than ONNX's own are unknown."""
