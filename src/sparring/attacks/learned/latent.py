"""TREMBA: a search in the code of a generator that was fitted to a model of the attacker's own."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring import geometry
from sparring.attack import ScoreAttack
from sparring.attacks.learned.generated import Generated, within
from sparring.attacks.learned.networks import Residual
from sparring.errors import InputError
from sparring.losses import Loss, margin
from sparring.problem import Scores
from sparring.spaces import L1, L2, Linf, ball
from sparring.types import Delta, rows


@dataclass(frozen=True)
class TREMBA(ScoreAttack):
    """Evolution strategies in the code of a generator: begin at the image's own code, and descend the victim's loss.

    Fit the generator to a surrogate (`fit_gap`, `fit_advgan`); what it makes of a code is a perturbation that already
    deceives models, so that few queries find the one that deceives this victim. A step asks `draws` times, in pairs on
    either side of the code, and once about the code itself; there are as many as `queries` pay for, and one at least.
    The step's length is fixed, where the paper's is the gradient's.

    Reference: Huang & Zhang, "Black-box adversarial attack with transferable model-based embedding", ICLR 2020,
    arXiv:1911.07140, algorithm 1.
    """

    generator: Generated
    queries: int = 5000
    draws: int = 20
    radius: float = 1.0
    """How far from the code it asks, a number of it, in units of the spread of the image's own code."""
    rate: float = 0.3
    """The length of a step, in the same unit."""
    decay: float = 0.9
    """Of earlier gradients, in the sum that a step follows."""
    loss: Loss = margin

    def search(self, p: Scores, /) -> Delta:
        space, network = ball(p.space, self, Linf, L2, L1), self.generator.network
        if not isinstance(network, Residual):
            raise InputError("TREMBA searches the code of an image; give a generator that fit_gap or fit_advgan made")
        if tuple(p.x.shape[1:]) != network.shape:
            raise InputError(
                f"this generator was fitted to inputs of shape {network.shape}, not {tuple(p.x.shape[1:])}; fit another"
            )
        with torch.device("meta"):
            module = network.build()
        held = {name: value.to(p.x.device, p.x.dtype) for name, value in self.generator.weights.items()}
        module.load_state_dict(held, assign=True)

        @torch.no_grad()
        def point(code: Tensor) -> Delta:
            made = module.decode(code) * (rows(p.eps, p.x) if space.p == torch.inf else 1)
            return space.project(p.x, within(made, p.eps, space.p))

        with torch.no_grad():
            code = module.encode(p.x)
        unit = rows(code.flatten(1).std(1).clamp_min(geometry.TINY), code)
        slope, count = torch.zeros_like(code), max(self.draws // 2, 1)
        for _ in p.steps(max(self.queries // (2 * count + 1), 1)):
            p.observe(point(code))
            found = torch.zeros_like(code)
            for _ in range(count):
                u = p.random.normal(*code.shape[1:])
                ahead, back = (p.value(point(code + sign * self.radius * unit * u), self.loss) for sign in (1, -1))
                found = found + rows(ahead - back, u).to(u) * u
            slope = self.decay * slope + geometry.unit(found, 2)
            code = code - self.rate * unit * slope[0].numel() ** 0.5 * geometry.unit(slope, 2)
        return point(code)
