"""A copy of a model whose batch normalisations are part of the layers before them: one pass over memory less for each.

In evaluation mode a batch normalisation is an affine map of each channel, and so is part of the convolution whose
output it takes. The product of the two is rounded once more, so that the copy's answers differ by rounding alone.
"""

from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from sparring.types import Batch

BEFORE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
AFTER = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Pair = tuple[nn.Module, nn.Module]


def frozen_copy(model: nn.Module, pairs: Iterable[Pair] = ()) -> nn.Module:
    """The same model, of which no parameter asks for a gradient, with these pairs of layers made one.

    It shares the memory of all weights but those of the layers that were made one; the model itself stays as it was.
    Whatever error copying such a model raises comes through.
    """
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    for before, after in pairs:
        memo[id(before)], memo[id(after)] = _joined(before, after), nn.Identity()
    return deepcopy(model, memo)


def foldable(model: nn.Module, x: Batch) -> list[Pair]:
    """The layers that are followed by a batch normalisation in evaluation mode and by nothing else.

    Who follows whom is read from the graph of one forward pass, so that it is what the model does, however it is
    written. Layers of other classes, even derived ones, and layers with hooks are left alone.
    """
    used, nodes = Counter[nn.Module](), dict[nn.Module, Any]()

    def note(layer: nn.Module, _: Any, out: Any) -> None:
        used[layer] += 1
        nodes[layer] = (
            out.grad_fn if isinstance(out, Tensor) and (type(layer) is not nn.Linear or out.ndim == 2) else None
        )

    layers = [layer for layer in model.modules() if type(layer) in BEFORE + AFTER and not _hooked(layer)]
    if not any(type(layer) in AFTER for layer in layers):
        return []
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.enable_grad():
            out = model(x.detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    readers = _readers(out.grad_fn if isinstance(out, Tensor) else None)
    single = {nodes[one]: one for one in layers if used[one] == 1 and type(one) in BEFORE and readers[nodes[one]] == 1}
    norms = [one for one in layers if used[one] == 1 and type(one) in AFTER and _affine(one) and nodes[one] is not None]
    found = [(single.get(nodes[norm].next_functions[0][0]), norm) for norm in norms]
    return [(before, norm) for before, norm in found if before is not None]


def _readers(node: Any) -> Counter[Any]:
    """How many operations read each one's output, in the graph that ends in `node`; None is read by nobody."""
    readers, seen, waiting = Counter[Any](), {node}, [node]
    while waiting:
        for before, _ in getattr(waiting.pop(), "next_functions", ()):
            if before is not None:
                readers[before] += 1
                if before not in seen:
                    seen.add(before)
                    waiting.append(before)
    return readers


def _affine(norm: nn.Module) -> bool:
    """Whether a batch normalisation is the same map for every batch."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    return not norm.training and norm.running_mean is not None


def _hooked(layer: nn.Module) -> bool:
    """Whether something of the user's own is called with the layer."""
    return any(getattr(layer, name) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))


def _joined(before: nn.Module, after: nn.Module) -> nn.Module:
    join: Any = fuse_linear_bn_eval if isinstance(before, nn.Linear) else fuse_conv_bn_eval
    return join(before, after).requires_grad_(False)
