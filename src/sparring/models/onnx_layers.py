"""Layers of ONNX in torch: convolutions, pools, normalisations, padding and scaling.

Each takes the node's attributes and its inputs, None where one is left out.

Reference: https://onnx.ai/onnx/operators/
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.errors import ModelError

Attributes: TypeAlias = Mapping[str, Any]


def whole(value: Any) -> list[int]:
    """Numbers of an attribute, or of an input that took its place."""
    return [int(one) for one in (value.flatten().tolist() if isinstance(value, Tensor) else value)]


def padded(a: Attributes, x: Tensor, kernel: Sequence[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """The input with what padding torch's layers cannot do themselves, and what is left for them to do."""
    n = len(kernel)
    strides, dilations = a.get("strides", [1] * n), a.get("dilations", [1] * n)
    pads, auto = list(a.get("pads", [0] * (2 * n))), a.get("auto_pad", b"NOTSET").decode()
    if auto.startswith("SAME"):
        for i, size in enumerate(x.shape[2:]):
            wide = (kernel[i] - 1) * dilations[i] + 1
            total = max((math.ceil(size / strides[i]) - 1) * strides[i] + wide - size, 0)
            less, more = total // 2, total - total // 2
            pads[i], pads[i + n] = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto == "VALID":
        pads = [0] * (2 * n)
    if pads[:n] == pads[n:]:
        return x, pads[:n]
    return F.pad(x, [side for i in reversed(range(n)) for side in (pads[i], pads[i + n])], value=value), [0] * n


def conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    n = w.ndim - 2
    x, pads = padded(a, x, w.shape[2:])
    run = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    return run(x, w, b, a.get("strides", [1] * n), pads, a.get("dilations", [1] * n), a.get("group", 1))


def conv_transpose(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    n, pads = w.ndim - 2, list(a.get("pads", [0] * (2 * (w.ndim - 2))))
    if pads[:n] != pads[n:] or a.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in a:
        raise ModelError("ConvTranspose with uneven padding cannot be converted")
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    more, wide = a.get("output_padding", [0] * n), a.get("dilations", [1] * n)
    return run(x, w, b, a.get("strides", [1] * n), pads[:n], more, a.get("group", 1), wide)


def max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = a["kernel_shape"]
    x, pads = padded(a, x, kernel, -math.inf)
    run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    ones = [1] * len(kernel)
    return run(x, kernel, a.get("strides", ones), pads, a.get("dilations", ones), bool(a.get("ceil_mode", 0)))


def average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, include = a["kernel_shape"], bool(a.get("count_include_pad", 0))
    run: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    more, rest = padded(a, x, kernel)
    how = (kernel, a.get("strides", [1] * len(kernel)), rest, bool(a.get("ceil_mode", 0)))
    if more is x or include:
        return run(more, *how, include)
    return run(more, *how, True) / run(padded(a, torch.ones_like(x), kernel)[0], *how, True)


def batch_norm(a: Attributes, x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, b, False, 0.0, a.get("epsilon", 1e-5))


def layer_norm(a: Attributes, x: Tensor, scale: Tensor, b: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.ndim
    return F.layer_norm(x, x.shape[axis:], scale.expand(x.shape[axis:]), b, a.get("epsilon", 1e-5))


def group_norm(a: Attributes, x: Tensor, scale: Tensor, b: Tensor) -> Tensor:
    groups = a["num_groups"]
    if len(scale) == groups != x.shape[1]:  # before version 21 there was one scale a group
        scale, b = (part.repeat_interleave(x.shape[1] // groups) for part in (scale, b))
    return F.group_norm(x, groups, scale, b, a.get("epsilon", 1e-5))


def pad(a: Attributes, x: Tensor, given: Tensor | None = None, value: Tensor | None = None, axes: Any = None) -> Tensor:
    pads = whole(a["pads"] if given is None else given)
    which = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in whole(axes)]
    sides = {axis: (pads[i], pads[i + len(which)]) for i, axis in enumerate(which)}
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[a.get("mode", b"constant").decode()]
    fill = a.get("value", 0.0) if value is None else float(value)
    first = min((axis for axis, both in sides.items() if any(both)), default=x.ndim)
    order = [side for axis in reversed(range(first, x.ndim)) for side in sides.get(axis, (0, 0))]
    return F.pad(x, order, mode, fill) if mode == "constant" else F.pad(x, order, mode)


def resize(a: Attributes, x: Tensor, *given: Tensor | None) -> Tensor:
    scales = next(
        (one for one in given[-3:] if one is not None and one.is_floating_point() and one.numel() == x.ndim), None
    )
    sizes = given[2] if len(given) > 2 else None
    to = whole(sizes)[2:] if sizes is not None else None
    if to is None:
        assert scales is not None
        to = [math.floor(side * scale) for side, scale in zip(x.shape[2:], scales[2:].tolist(), strict=True)]
    mode, place = a.get("mode", b"nearest").decode(), a.get("coordinate_transformation_mode", b"half_pixel").decode()
    if mode == "nearest":
        return F.interpolate(x, to, mode="nearest" if place == "asymmetric" else "nearest-exact")
    kind = {("linear", 3): "linear", ("linear", 4): "bilinear", ("cubic", 4): "bicubic"}[mode, x.ndim]
    return F.interpolate(
        x, to, mode=kind, align_corners=place == "align_corners", antialias=bool(a.get("antialias", 0))
    )


def depth_to_space(a: Attributes, x: Tensor) -> Tensor:
    size, (n, c, h, w) = a["blocksize"], x.shape
    if a.get("mode", b"DCR") == b"CRD":
        return F.pixel_shuffle(x, size)
    deep = c // size**2
    return x.reshape(n, size, size, deep, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, deep, h * size, w * size)


def space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    size, (n, c, h, w) = a["blocksize"], x.shape
    small = x.reshape(n, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
    return small.reshape(n, c * size**2, h // size, w // size)
