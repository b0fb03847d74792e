"""Pruning: what it drops stays dropped, and what promises more takes the place of two that were found first."""

from dataclasses import dataclass

import torch

from known import Affine, inputs
from sparring.attack import GradientAttack
from sparring.attacks import Pruning
from sparring.losses import margin
from sparring.spaces import L0


@dataclass(frozen=True)
class Poor(GradientAttack):
    """Moves every feature to its edge, the way that lowers the margin, but for those that promise most."""

    spared: int = 0

    def search(self, p, /):
        gradient = p.gradient(p.space.zeros(p.x), margin).gradient
        low, high = (bound - p.x for bound in p.space.box)
        edge = torch.where(gradient < 0, high, low)
        gain = (-gradient * edge).flatten(1)
        best = gain.argsort(1, descending=True)[:, : self.spared]
        return edge.flatten(1).scatter(1, best, 0.0).reshape(edge.shape)


def case(features: int = 24, shape=(2, 3, 4), n: int = 12):
    model, x = Affine(features, classes=2), inputs(n, shape)
    return model, x, model(x).argmax(1)


def gains(model, x, y):
    """By how much the margin falls where a feature goes to its edge."""
    weight = (model.weight[1 - y] - model.weight[y]).detach()
    gap = (model(x).gather(1, y[:, None]) - model(x).gather(1, 1 - y[:, None])).detach()
    return weight * torch.where(weight > 0, 1 - x.flatten(1), -x.flatten(1)), gap


def test_it_swaps_two_features_for_one_that_promises_more():
    model, x, _ = case(48, (48,))
    with torch.no_grad():
        model.bias[0] += 8  # so that several features are needed
    y = model(x).argmax(1)
    gain, gap = gains(model, x, y)
    best = gain.sort(1, descending=True).values[:, 6:].cumsum(1)  # without the six that promise most
    without = (best <= gap).sum(1) + 1
    assert (without > model.fewest(x, y)).sum() >= 3  # leaving out alone does not do
    r = Pruning(steps=250, start=Poor(6))(model, x, y, L0(pixels=False))
    assert torch.equal(r.distance, model.fewest(x, y))


def test_it_leaves_out_first_what_matters_least():
    model, x, y = case()
    gain, _ = gains(model, x, y)
    asked: list[torch.Tensor] = []

    def listening(points):
        asked.append(points.detach().clone())
        return model(points)

    Pruning(steps=8, start=Poor())(listening, x, y, L0(pixels=False), dense=True)
    order = gain.argsort(1)
    for place in range(4):
        left = (asked[4 + place] == x).flatten(1)
        assert torch.equal(left, torch.zeros_like(left).scatter(1, order[:, : place + 1], True))


def test_what_was_dropped_never_comes_back():
    model, x, y = case()
    asked: list[torch.Tensor] = []

    def listening(points):
        asked.append(points.detach().clone())
        return model(points)

    Pruning(steps=80, start=Poor(3))(listening, x, y, L0(pixels=False), dense=True)
    assert len(asked) > 30
    dropped, support = torch.zeros(12, 24, dtype=torch.bool), (asked[3] != x).flatten(1)
    for point in asked[4:-1]:  # after the clean look, the start's two, and the first slope
        now = (point != x).flatten(1)
        assert not (now & dropped).any()
        met = (model(point).argmax(1) != y)[:, None]
        dropped = dropped | (support & ~now & met)
        support = torch.where(met, now | (support & now), support)
    assert dropped.any(1).all()


def test_where_all_else_was_dropped_it_stops_asking():
    model, x, y = case(6, (6,))
    r = Pruning(steps=60, start=Poor())(model, x, y, L0(pixels=False))
    assert r.success.all()
    assert int(r.forwards.max()) < 20


def test_the_channels_of_a_pixel_go_together_and_the_fewest_pixels_are_left():
    model, x, y = case(24, (4, 2, 3))
    r = Pruning(steps=60, start=Poor())(model, x, y, L0())
    weight = (model.weight[1 - y] - model.weight[y]).detach().reshape(x.shape)
    gain = (weight * torch.where(weight > 0, 1 - x, -x)).sum(1).flatten(1)  # of each pixel, its channels at their edges
    gap = (model(x).gather(1, y[:, None]) - model(x).gather(1, 1 - y[:, None])).detach()
    fewest = (gain.sort(1, descending=True).values.cumsum(1) <= gap).sum(1) + 1
    assert torch.equal(r.distance, fewest.float())
    assert fewest.float().mean() < 3
