"""The lower lines' slopes, chosen by gradient ascent on the bound itself: any slopes are sound, and some are better.

Reference: Xu et al., "Fast and complete: enabling complete verification with rapid and massively parallel incomplete
verifiers", ICLR 2021, arXiv:2011.13824, section 3.1. Here the slopes of one last pass are chosen, for every class and
value of their own; the intervals before it stay those of CROWN.
"""

import torch
from torch import Tensor

from sparring.bounds.curves import BENT, piece
from sparring.bounds.regions import Region
from sparring.bounds.tape import Tape
from sparring.bounds.tighten import Held, margins


def best_margins(tape: Tape, region: Region, held: Held, y: Tensor, *, steps: int = 30, rate: float = 0.1) -> Tensor:
    """The greatest lower bounds of z_y - z_j that `steps` of Adam find, samples × classes; 0 for y itself."""
    starts = _starts(tape, held, tape.steps[tape.last].shape[1])
    held = Held([(low.detach(), high.detach()) for low, high in held.ends], held.errors)
    with torch.enable_grad():
        slopes = {index: start.requires_grad_(True) for index, start in starts.items()}
        best = margins(tape, region, held, y, slopes)
        if not slopes:
            return best.detach()
        optimiser = torch.optim.Adam(list(slopes.values()), rate)
        bound, best = best, best.detach()
        for _ in range(steps):
            optimiser.zero_grad()
            (-bound.sum()).backward()
            optimiser.step()
            with torch.no_grad():
                for index, slope in slopes.items():
                    slope.clamp_(piece(tape.steps[index]), 1.0)
            bound = margins(tape, region, held, y, slopes)
            best = torch.maximum(best, bound.detach())
    return best


def _starts(tape: Tape, held: Held, classes: int) -> dict[int, Tensor]:
    """The slopes that CROWN takes, once for each class."""
    found: dict[int, Tensor] = {}
    for index, step in enumerate(tape.steps):
        if step.name in BENT:
            low, high = held.ends[step.inputs[0]]
            if bool(((low < 0) & (high > 0)).any()):
                slope = torch.where(high > -low, torch.ones_like(low), piece(step))
                found[index] = slope.detach().expand(classes, *slope.shape).clone()
    return found
