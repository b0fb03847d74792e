"""Linear bounds, backward through the steps of a model: what a sum of a step's values is at least, in terms of inputs.

At a step that bends, a coefficient takes the lower line where it is positive and the upper one where it is negative;
a step without lines ends the way, and counts with its interval.

Reference: Zhang, Weng, Chen, Hsieh & Daniel, "Efficient neural network robustness certification with general
activation functions", NeurIPS 2018, arXiv:1811.00866, theorem 3.2; for any graph: Xu et al., "Automatic perturbation
analysis for scalable certified robustness and beyond", NeurIPS 2020, arXiv:2002.12920, section 3.2.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from sparring.bounds.curves import lines
from sparring.bounds.intervals import Interval, affine
from sparring.bounds.mixing import through
from sparring.bounds.names import IDENTITIES, KINKED, SMOOTH
from sparring.bounds.regions import Region
from sparring.bounds.tape import Step, Tape

RESHAPES = IDENTITIES | frozenset({"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"})
"""Steps that leave values in their order."""
SCALES = frozenset({"add", "sub", "rsub", "neg", "mul", "div", "batch_norm"})
"""Steps of one input whose values do not meet."""
CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
"""The arguments of a convolution, in torch's order; a linear layer has the first three."""
Slopes = Mapping[int, Tensor]
"""For some bent steps, the slopes of their lower lines where these may be chosen, in [0, 1] between the two pieces."""


def least(
    tape: Tape,
    region: Region,
    ends: Sequence[Interval],
    last: int,
    weights: Tensor,
    slopes: Slopes | None = None,
    errors: Mapping[int, Tensor] | None = None,
    twice: bool = False,
    deep: bool = True,
) -> Tensor:
    """The least of Σ weights · (values of step `last`) over the region: weights (k, *shape) to bounds (k, samples).

    `ends` holds the intervals of the steps before; `errors`, where given, how far each step's computed values can be
    from the exact ones. With `twice` the bounds of -weights follow, (2 k, samples): up to the first bend on the way
    back the two share their work. Without `deep` every bend counts with its interval, and only the last
    affine steps are taken together.
    """
    waiting, errors = {last: weights}, errors or {}
    total = lost = weights.new_zeros(len(weights), tape.samples)
    for index in range(last, 0, -1):
        if index not in waiting:
            continue
        weight, step = waiting.pop(index), tape.steps[index]
        if index in errors:
            lost = lost + step.owner.totals(weight.abs() * errors[index], tape.samples)
        before = [ends[i] for i in step.inputs]
        if twice and not affine(step):
            weight, total, lost = torch.cat([weight, -weight]), torch.cat([total, -total]), torch.cat([lost, lost])
            waiting, twice = {i: torch.cat([one, -one]) for i, one in waiting.items()}, False
        if affine(step):
            parts, offset = transposed(step, weight, before)
        elif deep and (step.name in KINKED or step.name in SMOOTH):
            part, offset = _bent(step, weight, before[0], (slopes or {}).get(index))
            parts = [part]
        elif deep and step.name == "max_pool2d":
            part, offset = _pooled(step, weight, before[0], ends[index])
            parts = [part]
        elif deep and (mixed := through(step, weight, before, ends[index])) is not None:
            parts, offset = mixed
        else:
            low, high = ends[index]
            parts, offset = [], weight.clamp_min(0) * low + weight.clamp_max(0) * high
        total = total + step.owner.totals(offset, tape.samples)
        for source, part in zip(step.inputs, parts, strict=False):
            waiting[source] = waiting[source] + part if source in waiting else part
    if twice:
        total, lost = torch.cat([total, -total]), torch.cat([lost, lost])
        waiting = {i: torch.cat([one, -one]) for i, one in waiting.items()}
    total = total - lost
    return total + region.least(waiting[0]) if 0 in waiting else total


def transposed(step: Step, weight: Tensor, before: Sequence[Interval]) -> tuple[list[Tensor], Tensor]:
    """The weights on an affine step's inputs, and the products with what it adds."""
    zeros = [torch.zeros_like(low) for low, _ in before]
    if step.name in {"linear", "conv2d"} and len(zeros) == 1:
        given: dict[str, Any] = dict(zip(CONVOLUTION, step.args, strict=False)) | dict(step.kwargs)
        matrix, bias = cast(Tensor, given["weight"]), cast("Tensor | None", given.get("bias"))
        shape = (-1, 1, 1) if step.name == "conv2d" else (-1,)
        offset = weight * (0.0 if bias is None else bias.reshape(shape))
        if step.name == "linear":
            return [weight @ matrix], offset
        if not isinstance(given.get("padding", 0), str):
            return [_spread(zeros[0], weight, matrix, given)], offset
    if step.name in RESHAPES:
        return [weight.reshape(len(weight), *zeros[0].shape)], torch.zeros_like(weight)
    if len(zeros) == 1 and step.name in SCALES and step.shape == zeros[0].shape:
        shift = step(*zeros)
        return [weight * (step(torch.ones_like(zeros[0])) - shift)], weight * shift
    if len(zeros) == 2 and step.name in {"add", "sub"} and zeros[0].shape == zeros[1].shape == step.shape:
        return [weight, weight if step.name == "add" else -weight], torch.zeros_like(weight)
    return _pulled(step, weight, zeros)


def _pulled(step: Step, weight: Tensor, zeros: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Any affine step, by differentiating it; all rows of weights at once."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        values = [zero.detach().requires_grad_(True) for zero in zeros]
        out = step(*values)
        parts = torch.autograd.grad([out], values, [weight], is_grads_batched=True, create_graph=graph)
    shift = out if graph else out.detach()
    return list(parts), weight * shift


def _spread(zero: Tensor, weight: Tensor, kernel: Tensor, given: Mapping[str, Any]) -> Tensor:
    """A convolution's transpose, for all rows of weights in one call."""
    size = (weight.shape[0] * weight.shape[1], *zero.shape[1:])
    settings = (given.get("stride", 1), given.get("padding", 0), given.get("dilation", 1), given.get("groups", 1))
    out: Tensor = conv2d_input(size, kernel, weight.flatten(0, 1), *settings)
    return out.unflatten(0, weight.shape[:2])


def _bent(step: Step, weight: Tensor, ends: Interval, chosen: Tensor | None) -> tuple[Tensor, Tensor]:
    """Through a curve: the lower line under positive weights, the upper one under negative ones."""
    held = lines(step, *ends)
    up, down = weight.clamp_min(0), weight.clamp_max(0)
    slope = held.low[0] if chosen is None or held.free is None else torch.where(held.free, chosen, held.low[0])
    return up * slope + down * held.high[0], up * held.low[1] + down * held.high[1]


def _pooled(step: Step, weight: Tensor, ends: Interval, out: Interval) -> tuple[Tensor, Tensor]:
    """Through a maximum over windows: from below, the value whose own low end is highest; from above, the same value
    where no other of its window can pass it, and the interval's end elsewhere.
    """
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given: dict[str, Any] = dict(zip(names, step.args, strict=False)) | dict(step.kwargs)
    settings = {key: value for key, value in given.items() if key in names[1:]}
    low, high = ends
    _, place = F.max_pool2d(low, return_indices=True, **settings)
    alone = _leading(high, place, settings) <= out[0]
    up, down = weight.clamp_min(0), weight.clamp_max(0)
    sent = (up + down * alone).flatten(3)
    back = torch.zeros(*weight.shape[:2], *low.shape[1:], dtype=weight.dtype, device=weight.device).flatten(3)
    index = place.flatten(2).expand(len(weight), -1, -1, -1)
    return back.scatter_add(3, index, sent).unflatten(3, low.shape[2:]), down * (out[1] * ~alone)


def _leading(high: Tensor, place: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """For each window the highest end of a value other than the one at `place`; infinite where windows share those."""
    marks = torch.zeros_like(high).flatten(2).scatter(2, place.flatten(2), 1.0).reshape(high.shape)
    rival = F.max_pool2d(high.where(marks == 0, -torch.inf), **settings)
    if settings.get("padding", 0) or settings.get("ceil_mode") or settings.get("dilation", 1) != 1:
        return torch.full_like(rival, torch.inf)
    shared = F.avg_pool2d(marks, settings["kernel_size"], settings.get("stride"), divisor_override=1) != 1
    return rival.masked_fill(shared, torch.inf)
