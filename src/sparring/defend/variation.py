"""Total variation minimisation: images redrawn from some of their pixels, as flat as these allow."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.defend.inputs import OBFUSCATED, Filter
from sparring.errors import InputError
from sparring.models.defended import Account


class TotalVariation(Filter):
    """The image z in [0, 1] of least ½ ‖m (z - x)‖² + weight · TV(z), where m keeps a pixel with chance 1 - `dropped`.

    TV is isotropic and a channel's own. The paper's data term is not squared and its variation is taken a row and a
    column at a time, so its weight 0.03 means a little else. One draw of m, from torch's default generator, serves
    the whole batch: judge it by its mean (`Averaged`).

    Reference: Guo, Rana, Cissé & van der Maaten, "Countering adversarial images using input transformations", ICLR
    2018, arXiv:1711.00117, section 3.3; solved by Chambolle & Pock, "A first-order primal-dual algorithm for convex
    problems with applications to imaging", J. Math. Imaging and Vision 2011, algorithm 1.
    """

    def __init__(self, dropped: float = 0.5, weight: float = 0.1, steps: int = 60):
        super().__init__()
        if not (0 <= dropped < 1 and weight >= 0 and steps > 0):
            raise InputError(f"dropped is {dropped}, weight {weight}, steps {steps}; give [0, 1), 0 or more, 1 or more")
        self.dropped, self.weight, self.steps = dropped, weight, steps

    def filtered(self, x: Tensor) -> Tensor:
        kept = (torch.rand(1, 1, *x.shape[2:], device=x.device) >= self.dropped).to(x)
        return minimised(x, kept.expand(len(x), -1, -1, -1), self.weight, self.steps)

    @property
    def account(self) -> Account:
        does = f"redraws its inputs from {1 - self.dropped:.0%} of their pixels (total variation)"
        return Account(does, "through the redrawing (BPDA), by the mean over its draws", OBFUSCATED)


def minimised(x: Tensor, kept: Tensor, weight: float, steps: int) -> Tensor:
    """The minimiser: what x holds where `kept` is 0 has no part in it."""
    step = 8**-0.5  # squared, times the bound 8 of the squared norm of the difference operator, no more than 1
    near = F.avg_pool2d(kept, 5, 1, 2)
    image = torch.where(kept > 0, x, F.avg_pool2d(x * kept, 5, 1, 2) / near.clamp_min(1e-6))
    ahead, down, right = image, torch.zeros_like(x), torch.zeros_like(x)
    for _ in range(steps):
        down = down + step * F.pad(ahead.diff(dim=2), (0, 0, 0, 1))
        right = right + step * F.pad(ahead.diff(dim=3), (0, 1))
        scale = ((down.square() + right.square()).sqrt() / max(weight, 1e-12)).clamp_min(1)
        down, right = down / scale, right / scale
        spread = (down - F.pad(down, (0, 0, 1, 0))[:, :, :-1]) + (right - F.pad(right, (1, 0))[..., :-1])
        before = image
        image = ((image + step * (spread + kept * x)) / (1 + step * kept)).clamp(0, 1)
        ahead = 2 * image - before
    return image
