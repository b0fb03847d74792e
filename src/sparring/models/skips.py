"""A residual network whose gradient prefers the skip connections."""

import re
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from sparring.errors import InputError


class SkipGradients(nn.Module):
    """A model whose residual branches pass back only a share of their gradient; its answers are unchanged.

    `branches` is a regular expression for the names (of `model.named_modules()`) of the last layer of each branch:
    r"\\.bn2$" in most small ResNets, r"\\.bn3$" with bottlenecks. Give it to `Transfer` as the surrogate; any attack
    becomes the skip gradient method. Raises InputError where no name matches.

    Reference: Wu, Wang, Xia, Bailey & Ma, "Skip connections matter: on the transferability of adversarial examples
    generated with ResNets", ICLR 2020, arXiv:2002.05990, section 3.
    """

    def __init__(self, model: nn.Module, branches: str, share: float = 0.5):
        super().__init__()
        names = [name for name, _ in model.named_modules()]
        self.names = tuple(name for name in names if re.search(branches, name))
        if not self.names:
            raise InputError(f"no layer is called like {branches!r}; the model has {', '.join(names[1:]) or 'none'}")
        if not 0 <= share <= 1:
            raise InputError(f"share is {share}; it must lie in [0, 1]")
        self.model, self.share = model, share
        self.training = model.training

    def forward(self, x: Tensor) -> Any:
        """The model's answer; its hooks are there for this call alone."""
        with ExitStack() as stack:
            for name in self.names:
                hook = self.model.get_submodule(name).register_forward_hook(self._thin)
                stack.callback(hook.remove)
            return self.model(x)

    def _thin(self, layer: nn.Module, given: Any, out: Tensor) -> Tensor:
        """The same value, of which only a share can be differentiated."""
        return out + (1 - self.share) * (out.detach() - out)
