"""Extraction: a network that is trained on a black box's answers, and the bill for them.

What it ends in is a model of the attacker's own: `Transfer(copy.network, attack=…)` attacks the black box with it.
"""

from typing import Unpack

import torch
from torch import nn

from sparring import geometry
from sparring.attacks.learned.answers import Endpoint
from sparring.attacks.learned.copying import STREAM, Copier, Extracted, Fit
from sparring.batches import order
from sparring.types import Batch, Labels


def fit_substitute(
    model: Endpoint,
    inputs: Batch,
    network: nn.Module,
    *,
    budget: int,
    rounds: int = 6,
    step: float = 0.1,
    turn: int = 3,
    box: tuple[float, float] = (0.0, 1.0),
    **how: Unpack[Fit],
) -> Extracted:
    """Train a substitute on the classes that the model names, at a few inputs and at what is made of them.

    After each round every input so far gives another: it takes a step of length `step` along the sign of the
    substitute's own gradient, up the score of the class that the model named (Jacobian-based augmentation), and down it
    in every other stretch of `turn` rounds. Ends after `rounds`, or once `budget` inputs were asked about; where the
    last round's are too many for what is left, a random part of them is asked.

    `model` is any callable; of scores, only the winner is looked at. `network` is copied, and its copy trained for
    `epochs` (10) a round. Raises InputError where there is nothing to ask or to train, and ModelError where the answers
    are no classes of the network's.

    Reference: Papernot, McDaniel, Goodfellow, Jha, Celik & Swami, "Practical black-box attacks against machine
    learning", AsiaCCS 2017, arXiv:1602.02697, algorithm 1, with its periodic step; the random part stands for its
    reservoir sampling.
    """
    settings = {"rounds": rounds, "step": step, "turn": turn}
    learner = Copier(model, network, inputs[:budget], budget, settings, hard=True, how=how)

    def augmented(points: Batch, named: Labels, index: int) -> Batch:
        sign = -1 if (index // turn) % 2 else 1
        more = [
            geometry.clip(x + sign * step * learner.slope(x, y).sign(), *box)
            for x, y in zip(points.split(learner.size), named.split(learner.size), strict=True)
        ]
        return torch.cat(more)

    return learner.run(rounds, augmented)


def fit_knockoff(model: Endpoint, inputs: Batch, network: nn.Module, *, budget: int, **how: Unpack[Fit]) -> Extracted:
    """Train a knockoff on the model's answers at random inputs from a large pool that need not be the model's own data.

    Each of at most `budget` inputs is asked about once. Scores, where the model gives them, are learned as
    probabilities, and named classes as they are. `network` is copied, and its copy trained for `epochs` (10).

    Reference: Orekondy, Schiele & Fritz, "Knockoff nets: stealing functionality of black-box models", CVPR 2019,
    arXiv:1812.02766, section 4, with its random strategy.
    """
    pool = order(len(inputs), how.get("seed", 0), STREAM)[:budget].to(inputs.device)
    return Copier(model, network, inputs[pool], budget, {}, hard=False, how=how).run(1, None)
