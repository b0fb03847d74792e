"""Searches in stages, aimed searches and searches without projections: laws and closed forms."""

import torch

from known import Affine, inputs, mlp
from sparring.attack import AllTargets
from sparring.attacks.fab import FAB
from sparring.spaces import Linf


def test_a_sample_is_aimed_at_every_class_whoever_rests_beside_it():
    """FAB rests where a short search passed no boundary; alone in its batch, such a sample ended every later aim."""
    model, x = mlp(), inputs(6)
    y, attack = model(x).argmax(1), AllTargets(FAB(steps=1, final=0), 3)
    whole = attack(model, x, y, Linf())
    alone = [attack(model, x[i : i + 1], y[i : i + 1], Linf(), ids=torch.tensor([i])) for i in range(len(x))]
    assert [int(r.forwards) for r in alone] == whole.forwards.tolist()
