"""Conjugate gradients: a direction along which the last step's gain is not undone."""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from sparring.directions import Direction
from sparring.geometry import unit
from sparring.types import Delta, PerSample, rows


class Conjugation(NamedTuple):
    """The gradient and the step before."""

    gradient: Delta
    step: Delta


@dataclass(frozen=True)
class Conjugate(Direction):
    """The gradient plus β times the step before, β after Hestenes & Stiefel: orthogonal to the gradient's last change.

    Reference: Yamamura et al., "Diversified adversarial attacks based on conjugate gradient method", ICML 2022,
    arXiv:2206.09628, section 4. The published code (and ART's) takes β with the other sign, which is not conjugate.
    """

    rescaled: bool = False
    """Where β would let the step before drown the gradient, take it from gradients of length one instead (ReACG:
    Yamamura et al., 2024, arXiv:2408.03972)."""

    def init(self, like: Delta) -> Conjugation:
        return Conjugation(torch.zeros_like(like), torch.zeros_like(like))

    def update(self, gradient: Delta, state: Conjugation) -> tuple[Delta, Conjugation]:
        beta = _beta(gradient, *state)
        if self.rescaled:
            tame = _beta(unit(gradient, 2), unit(state.gradient, 2), state.step)
            most = (gradient / state.step).abs().nan_to_num(0.0, posinf=0.0).flatten(1).mean(1)
            beta = torch.where((beta.abs() > most) & (beta.abs() > tame.abs()), tame, beta)
        step = gradient + rows(beta, gradient) * state.step
        return step, Conjugation(gradient, step)


def _beta(gradient: Delta, before: Delta, step: Delta) -> PerSample:
    """Hestenes & Stiefel's β; 0 where it is not defined, as at the first step."""
    change = gradient - before
    below = (step * change).flatten(1).sum(1)
    return torch.where(below == 0, 0.0, -(gradient * change).flatten(1).sum(1) / below).nan_to_num(0.0, 0.0, 0.0)
