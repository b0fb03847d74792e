"""The triangle attack: two sides and two angles give the third side, from a plane of low frequencies."""

import math
from dataclasses import dataclass, field

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import across, begin
from sparring.attacks.starts import Start, UniformNoise
from sparring.attacks.subspaces import LowFrequency, Subspace
from sparring.geometry import norm, unit
from sparring.problem import Decisions
from sparring.spaces import L2, ball
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class TriangleAttack(DecisionAttack):
    """Turn the best point about the clean input by β, and come nearer as the triangle's angle α at the new point says.

    With the clean input, the best point and the new one for corners, the law of sines gives the new distance,
    sin(α + β)/sin α of the old. α grows where the goal is met and shrinks where it is not. It minimises the distance,
    in L2: the threat model's eps does not bound the search.

    Reference: Wang, Zhang, Tong, Gong, He, Li & Liu, "Triangle Attack: a query-efficient decision-based adversarial
    attack", ECCV 2022, arXiv:2112.06569, algorithm 1.
    """

    steps: int = 2000
    """How many planes; each costs two queries, and `halvings` more where a point is found."""
    halvings: int = 2
    """How often to bisect β (the paper's N)."""
    least: float = math.pi / 16
    """The smallest β tried, as long as that comes nearer."""
    grow: float = 0.01
    """How much α grows, in radians (the paper's γ)."""
    shrink: float = 0.05
    """By what part of that α shrinks where it fails (the paper's λ)."""
    room: float = 0.1
    """How far α may leave the right angle (the paper's τ)."""
    subspace: Subspace = field(default_factory=LowFrequency)
    start: Start = field(default_factory=UniformNoise)

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, L2).within(None)
        ask, delta, found = begin(p, space, self.start)
        alpha = torch.full_like(space.distance(p.x, delta), math.pi / 2)
        for _, u in zip(p.steps(self.steps), self.subspace.directions(p.x, p.random, self.steps), strict=False):
            side = unit(across(delta, u), 2)

            def corner(alpha: PerSample, beta: PerSample, delta: Delta = delta, side: Delta = side) -> Delta:
                share = (alpha + beta.abs()).sin() / alpha.sin()
                turned = rows(beta.cos(), delta) * delta + rows(beta.sin() * norm(delta, 2), delta) * side
                return space.project(p.x, rows(share, delta) * turned)

            low = torch.maximum(math.pi - 2 * alpha, torch.full_like(alpha, self.least)).clamp_max(math.pi / 2)
            high = torch.minimum(math.pi - alpha, torch.full_like(alpha, math.pi / 2))
            best, landed, turn = delta, torch.zeros_like(found), low
            for sign in (1, -1):
                point = corner(alpha, sign * low)
                met = ask(point, ~landed)
                alpha = self._learn(alpha, met, ~landed)
                best, turn = torch.where(rows(met, best), point, best), torch.where(met, sign * low, turn)
                landed = landed | met
            for _ in range(self.halvings):
                beta = (low + high) / 2
                point = corner(alpha, turn.sign() * beta)
                met = ask(point, landed)
                alpha = self._learn(alpha, met, landed)
                closer = met & (norm(point, 2) < norm(best, 2))
                best = torch.where(rows(closer, best), point, best)
                low, high = torch.where(met, beta, low), torch.where(met, high, beta)
            closer = norm(best, 2) < norm(delta, 2)
            delta = torch.where(rows(closer, delta), best, delta)
        return delta

    def _learn(self, alpha: PerSample, met: torch.Tensor, who: torch.Tensor) -> PerSample:
        """α after an answer, for those that were asked."""
        moved = alpha + self.grow * torch.where(met, 1.0, -self.shrink)
        moved = moved.clamp(math.pi / 2 - self.room, math.pi / 2 + self.room)
        return torch.where(who, moved, alpha)
