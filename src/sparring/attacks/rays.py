"""RayS: the smallest L∞ perturbation among the corners of a cube, sign block by sign block."""

from dataclasses import dataclass

import torch

from sparring.attack import DecisionAttack
from sparring.attacks.lines import Oracle, descend
from sparring.problem import Decisions
from sparring.spaces import Linf, ball
from sparring.types import Delta, PerSample, rows


@dataclass(frozen=True)
class RayS(DecisionAttack):
    """Flip a block of signs; where the goal is still met at the distance so far, keep it and go nearer.

    Blocks halve from the whole input to single features, and then begin again. It minimises the distance, in L∞: the
    threat model's eps does not bound the search. No random number is drawn, and no start is needed: a sample starts at
    the corner of the box that its first signs point at, and stays there until a flip leads across the boundary.

    Reference: Chen & Gu, "RayS: a ray searching method for hard-label adversarial attack", KDD 2020,
    arXiv:2006.12792, algorithms 2 and 3. A bisection there covers all of the distance; here strides towards the clean
    input find the part to bisect, since most flips gain little.
    """

    steps: int = 10_000
    """How many blocks to try; each costs one query, and a bisection where it is kept."""
    tolerance: float = 0.01
    """Where a bisection stops, in units of the distance; there, it is 0.001 in units of the input."""

    def search(self, p: Decisions, /) -> Delta:
        space = ball(p.space, self, Linf).within(None)
        low, high = (bound - p.x for bound in space.box)
        width, features = (high - low).flatten(1).amax(1), p.x[0].numel()
        signs, length, ask = torch.ones_like(p.x).flatten(1), width, Oracle(p, torch.ones_like(width) > 0)

        def at(length: PerSample, signs: torch.Tensor) -> Delta:
            return space.project(p.x, rows(length, p.x) * signs.reshape(p.x.shape))

        level, block, met = 0, -1, torch.zeros_like(width, dtype=torch.bool)
        for _ in p.steps(self.steps):
            size = -(-features // 2**level)
            flipped = signs.clone()
            if block >= 0:
                flipped[:, block * size : (block + 1) * size] *= -1
            better = ask(at(length, flipped))

            def along(length: PerSample, flipped: torch.Tensor = flipped) -> Delta:
                return at(length, flipped)

            signs, met = torch.where(better[:, None], flipped, signs), met | better
            length = descend(ask, along, length, better, tolerance=self.tolerance)
            block += 1
            if block * size >= features:
                level, block = (level + 1 if size > 1 else 0), 0
        return at(length, signs)
