"""The minimum-norm attacks on models whose distances are known exactly, and what is particular to each of them."""

import math

import pytest
import torch

from known import Affine, inputs, mlp
from known_relu import Relu
from sparring import attacks as a
from sparring.attack import Attack, Cascade, GradientAttack
from sparring.errors import InputError
from sparring.losses import margin
from sparring.spaces import L0, L1, L2, Ball, ElasticNet, Flow, Linf, Rotation
from table_minimum import ROWS

WIDER: dict[str, Attack] = {
    "pdpgd": a.PDPGD(steps=200, rate=0.1, ratio=0.1),
    "alma": a.ALMA(steps=150, rate=0.01),
    "bisection-pgd": a.Bisection(a.APGD(steps=20, loss=margin), 9),
    "cw-linf": a.CarliniWagnerLinf(steps=60, searches=40, rate=0.03, first_weight=10.0, decrease=0.95),
}
"""Settings for the unit square, where the rows of the table, made for shorter ways, would not arrive."""
MORE: tuple[tuple[str, Attack, tuple[type[Ball], ...]], ...] = (
    ("fmn", a.FMN(), (Linf, L2, L1)),
    ("fab", a.FAB(steps=50), (Linf, L2, L1)),
    ("carlini-wagner", a.CarliniWagner(steps=60, searches=6, rate=0.02, first_weight=0.1), (L2,)),
    ("alma", a.ALMA(steps=150, rate=0.01), (L1,)),
)
CASES = [
    pytest.param(WIDER.get(name, attack), space, id=f"{name}-{space.__name__}")
    for name, attack, norms in (*((e.name, e.attack, e.norms) for e in ROWS if e.minimal), *MORE)
    for space in norms
    if space is not L0
]


def points(model, n=24):
    x = torch.rand(n, 2, generator=torch.Generator().manual_seed(5))
    return x, model(x).argmax(1)


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_the_exact_distance_of_a_relu_network_is_what_a_grid_sees(p):
    model = Relu()
    x, y = points(model, 12)
    side = torch.linspace(0, 1, 401)
    grid = torch.cartesian_prod(side, side)
    named = model(grid).argmax(1)
    true = model.distance(x, y, p)
    for i in range(len(x)):
        seen = (grid[named != y[i]] - x[i]).norm(p=p, dim=1).min()
        assert true[i] - 1e-6 <= seen <= true[i] + 2.5 / 400


@pytest.mark.parametrize(("attack", "space"), CASES)
def test_on_a_relu_network_it_comes_near_the_exact_distance_and_never_below(attack, space):
    ratios = []
    for seed in (0, 1):
        model = Relu(seed=seed)
        x, y = points(model)
        r = attack(model, x, y, space())
        ratios.append(r.distance.double() / model.distance(x, y, space.p))
    ratio = torch.cat(ratios)
    assert float(ratio.min()) >= 1 - 1e-5
    assert float(ratio.median()) <= 1.05


def test_alma_in_l1_ends_near_the_true_distance():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    ratio = a.ALMA(steps=150, rate=0.003)(model, x, y, L1()).distance / model.distance(x, y, 1)
    assert float(ratio.min()) >= 1 - 1e-5
    assert float(ratio.median()) <= 1.05


def test_the_first_step_of_alma_has_the_length_asked_for():
    model, x = mlp(), inputs()
    y = model(x).argmax(1)
    last = a.ALMA(steps=1, first=0.05, final=0).perturb(model, x, y, L2())
    assert torch.allclose((last - x).flatten(1).norm(dim=1), torch.zeros(len(x)))  # nothing met: nothing to hand back
    two = a.ALMA(steps=2, first=0.05, final=0)(model, x, y, L2())
    assert (two.forwards <= 4).all()


@pytest.mark.parametrize("space", [Linf, L2, L1])
def test_a_proximal_step_beats_every_other_point_on_its_own_measure(space):
    from sparring.attacks.pdgd import proximal

    generator = torch.Generator().manual_seed(0)
    x = torch.full((6, 5), 0.5, dtype=torch.double)
    v = torch.randn(6, 5, generator=generator, dtype=torch.double) / 5
    metric = torch.rand(6, 5, generator=generator, dtype=torch.double) + 0.1
    weight = torch.tensor([0.001, 0.01, 0.03, 0.1, 1.0, 10.0], dtype=torch.double)

    def measure(u):
        return (metric * (u - v).square()).sum(-1) / 2 + weight * u.norm(p=space.p, dim=-1)

    u = proximal(space(), x, v, metric, weight)
    for scale in (1e-3, 1e-2, 1e-1):
        others = u + scale * torch.randn(2000, 6, 5, generator=generator, dtype=torch.double)
        assert (measure(u) <= measure(others) + 1e-9).all()
    assert (u[-1] == 0).all() or float(u[-1].abs().max()) < 1e-6
    assert (u.abs() <= v.abs() + 1e-12).all()


def test_the_proximal_operator_of_l0_is_that_of_the_two_thirds_power():
    from sparring.attacks.pdgd import proximal

    x, v = torch.full((4, 50), 0.5, dtype=torch.double), torch.linspace(-0.5, 0.5, 50).double().expand(4, 50)
    weight, grid = torch.tensor([0.001, 0.01, 0.05, 0.2], dtype=torch.double), torch.linspace(-0.5, 0.5, 20001).double()
    u = proximal(L0(pixels=False), x, v, torch.full_like(x, 2.0), weight)

    def measure(u, v, w):
        return (u - v).square() + w * u.abs() ** (2 / 3)

    best = torch.stack([measure(grid, v[0, :, None], w).amin(1) for w in weight])
    assert (measure(u, v, weight[:, None]) <= best + 1e-9).all()


def test_a_bisection_takes_any_attack_and_needs_what_it_needs():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    true = model.distance(x, y, math.inf)
    for inner, factor in ((a.PGD(steps=10, loss=margin), 1.02), (a.APGD(steps=10), 1.02), (a.Square(queries=60), 1.6)):
        search = a.Bisection(inner, 9)
        assert search.access is inner.access
        r = search(model, x, y, Linf())
        assert float((r.distance / true).median()) <= factor


def test_a_bisection_pays_only_until_a_run_succeeds():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    r = a.Bisection(a.PGD(steps=20, loss=margin), 8)(model, x, y, Linf())
    assert (r.forwards < 2 + 8 * 21).all()
    assert (r.backwards < r.forwards).all()


def test_a_bisection_knows_what_an_aimed_search_found():
    model, x = Affine(classes=5), inputs()
    y = model(x).argmax(1)
    search = a.Bisection(a.AllTargets(a.PGD(steps=5, loss=margin), 4), 9)
    r = search(model, x, y, Linf())
    assert float((r.distance / model.distance(x, y, math.inf)).median()) <= 1.05
    assert (r.forwards < 2 + 9 * 4 * 6).all()


def test_a_bisection_in_l0_counts_whole_features():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    r = a.Bisection(a.PGD(steps=10, loss=margin), 6)(model, x, y, L0(pixels=False))
    assert (r.distance >= model.fewest(x, y)).all()
    assert float((r.distance == model.fewest(x, y)).double().mean()) >= 0.75


def test_a_bisection_takes_spaces_that_are_no_balls_and_beats_a_ladder_of_runs():
    model, x = mlp(), inputs(spread=1.0)
    y = model(x).argmax(1)
    inner = a.PGD(steps=10, loss=margin)
    for space, ladder in ((Flow, (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)), (Rotation, (0.1, 0.3, 1.0))):
        r = a.Bisection(inner, 12)(model, x, y, space(eps=None))
        assert r.success.any()
        for eps in ladder:
            at = inner(model, x, y, space(eps=eps))
            assert (r.distance[at.success] <= 1.1 * eps).double().mean() >= 0.9


def test_sigma_zero_counts_a_pixel_once_with_all_its_channels():
    model, x = mlp(75), inputs(12, (3, 5, 5), spread=1.0)
    y = model(x).argmax(1)
    r = a.SigmaZero(steps=100)(model, x, y, L0())
    assert r.success.all()
    assert torch.equal(r.distance, (r.delta != 0).any(1).flatten(1).sum(1).float())


def test_superdeepfool_ends_no_farther_than_deepfool():
    model, x = mlp(), inputs(spread=1.0)
    y = model(x).argmax(1)
    plain, better = (attack(model, x, y, L2()) for attack in (a.DeepFool(), a.SuperDeepFool(steps=50)))
    assert better.success.all()
    assert (better.distance <= plain.distance * 1.001).double().mean() >= 0.9
    assert float(better.distance.mean()) < float(plain.distance.mean())


def test_fmn_lengthens_its_steps_until_the_goal_is_first_met():
    class Flat(torch.nn.Module):
        """A boundary far away for the length of the steps: about 1.2 in L2."""

        def forward(self, x):
            far = x.flatten(1).sum(1) - 12 - 6
            return torch.stack([-far, far], 1)

    x = inputs()
    y = torch.zeros(len(x), dtype=torch.long)
    short, long = (a.FMN(steps=100, step=0.02, growth=g)(Flat(), x, y, L2()).success for g in (1.0, 1.2))
    assert not short.any()
    assert long.all()


def test_minimum_norm_attacks_say_where_they_work():
    model, x = mlp(), inputs(3)
    y = model(x).argmax(1)
    for attack, space in ((a.DDN(), L1()), (a.SigmaZero(), L2()), (a.PDGD(), Linf()), (a.EAD(), Linf())):
        with pytest.raises(InputError, match="works in"):
            attack(model, x, y, space)


def test_together_they_are_no_worse_than_any():
    model, x = mlp(), inputs(spread=1.0)
    y = model(x).argmax(1)
    parts = (a.DDN(steps=30), a.FMN(steps=30))
    alone = torch.stack([part(model, x, y, L2()).distance for part in parts]).amin(0)
    assert torch.allclose(Cascade(parts)(model, x, y, L2()).distance, alone, rtol=1e-4)


class Everything(GradientAttack):
    """Moves every feature to its edge, the way that lowers the margin: a start with all to prune."""

    def search(self, p, /):
        gradient = p.gradient(p.space.zeros(p.x), margin).gradient
        low, high = (bound - p.x for bound in p.space.box)
        return torch.where(gradient < 0, high, low)


def test_pruning_leaves_the_fewest_features_of_an_affine_model():
    model, x = Affine(classes=2), inputs(24)
    y = model(x).argmax(1)
    r = a.Pruning(steps=40, start=Everything())(model, x, y, L0(pixels=False))
    assert r.success.all()
    assert torch.equal(r.distance, model.fewest(x, y))


def test_pruning_without_a_start_asks_nothing():
    model, x = mlp(), inputs()
    r = a.Pruning(steps=40)(model, x, model(x).argmax(1), L0())
    assert not r.success.any()
    assert int(r.forwards.max()) <= 2


def test_a_ball_that_begins_near_looks_at_nothing_farther_than_what_was_found():
    model, x = Affine(classes=2), inputs()
    y, asked = model(x).argmax(1), list[torch.Tensor]()

    def listening(points):
        asked.append((points - x).flatten(1).norm(dim=1))
        return model(points)

    found = a.FMN(steps=10)
    least = found(model, x, y, L2()).distance
    assert least.isfinite().all()
    r = Cascade((found, a.ShrinkingBall(steps=20, outset=None)))(listening, x, y, L2())
    assert (torch.stack(asked[-22:]).amax(0) <= least * (1 + 1e-6)).all()  # the search, its last point, the result's
    assert (r.distance <= least).all()
    assert (r.distance < least).any()


@pytest.mark.parametrize("space", [L0(), L1(), L2(), Linf()], ids=["l0", "l1", "l2", "linf"])
def test_minimum_norm_costs_no_more_than_it_says(space):
    model, x = mlp(classes=12), inputs()
    r = a.MinimumNorm(steps=130)(model, x, model(x).argmax(1), space)
    assert r.success.all()
    assert int(r.forwards.max()) <= 130
    assert int(r.backwards.max()) <= 130
    with pytest.raises(InputError, match=r"MinimumNorm\(steps=20\).*100"):
        a.MinimumNorm(steps=20)


def test_ead_keeps_the_point_that_is_least_in_the_measure_of_its_space():
    model, x = mlp(), inputs(spread=1.0)
    y, measure = model(x).argmax(1), ElasticNet(beta=0.05)
    attack = a.EAD(steps=40, searches=6, first_weight=0.1, beta=0.05)
    by_rule = {type(space): attack(model, x, y, space) for space in (measure, L1(), L2())}
    assert by_rule[ElasticNet].success.all()
    least = by_rule[ElasticNet].distance
    for space in (L1, L2):
        assert (measure.distance(x, by_rule[space].delta) >= least - 1e-6).all()
    assert (by_rule[L1].distance <= L1().distance(x, by_rule[ElasticNet].delta) + 1e-6).all()


@pytest.mark.parametrize("space", [Linf(), L2()], ids=repr)
@pytest.mark.parametrize(
    "make", [a.FMN, lambda *s, **k: a.ShrinkingBall(*s, outset=None, **k)], ids=["fmn", "shrinking"]
)
def test_an_aim_out_of_reach_is_left_alone_and_costs_no_distance(space, make):
    slopes, rest = torch.eye(4, 12) * torch.tensor([1.0, 1.0, 0.02, 0.02])[:, None], torch.tensor([0.1, 0, -0.1, -0.1])
    x = torch.full((3, 12), 0.5)

    def model(x):
        return x @ slopes.T + rest

    y = torch.zeros(3, dtype=torch.long)
    all_of_them, near = (a.AllTargets(make(60, hope=hope), 3)(model, x, y, space) for hope in (math.inf, 2.0))
    assert near.distance.tolist() == pytest.approx(all_of_them.distance.tolist(), rel=1e-3)
    assert (near.backwards <= all_of_them.backwards - 100).all()


def far_and_near():
    """Three samples of class 0; class 1 lies near, the others so far that no search meets them in the same ball."""
    slopes, rest = torch.eye(4, 12) * torch.tensor([1.0, 1.0, 0.3, 0.3])[:, None], torch.tensor([0.1, 0, -0.3, -0.3])
    return lambda x: x @ slopes.T + rest, torch.full((3, 12), 0.5), torch.zeros(3, dtype=torch.long)


def test_an_aim_that_never_came_near_is_left_alone_and_costs_no_distance():
    model, x, y = far_and_near()
    aims = [a.AllTargets(a.ShrinkingBall(60, outset=None, doubt=doubt), 3) for doubt in (math.inf, 0.12)]
    whole, short = (aim(model, x, y, Linf()) for aim in aims)
    assert short.distance.tolist() == pytest.approx(whole.distance.tolist(), rel=1e-6)
    assert (short.backwards <= whole.backwards - 80).all()


@pytest.mark.parametrize(
    ("late", "space"),
    [(a.ShrinkingBall(60, gamma=1e-4, behind=1.5), Linf()), (a.ALMA(60, rate=1e-4, behind=1.5), L2())],
    ids=["shrinking", "alma"],
)
def test_a_search_far_behind_the_one_before_it_ends_on_the_way(late, space):
    model, x, y = far_and_near()
    near = a.FMN(steps=60)(model, x, y, space)
    both = a.Cascade((a.FMN(steps=60), late))(model, x, y, space)
    assert both.distance.tolist() == pytest.approx(near.distance.tolist(), rel=1e-6)
    assert (both.backwards - near.backwards < 45).all()
    assert (late(model, x, y, space).backwards == 60).all()
