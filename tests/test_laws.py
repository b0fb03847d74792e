"""What holds for every attack."""

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

from entry import Entry
from known import Affine, inputs, mlp
from sparring.errors import AccessError, InputError
from sparring.geometry import norm
from sparring.goals import Targeted, Untargeted, lead
from sparring.spaces import L0, L1, L2, Ball, Linf
from sparring.threat import Access, ThreatModel
from table import SPINE, TABLE

EPS = {Linf: 0.04, L2: 0.15, L1: 0.4, L0: 3}


def case(entry: Entry, space: type[Ball], *value, quick: bool = True):
    """A case of a law. The spine's are all quick; of the other attacks, the chief laws in their first norm."""
    quick = quick and space is entry.norms[0] and not entry.heavy
    marks = () if entry in SPINE or quick else pytest.mark.slow
    return pytest.param(entry, space, *value, id="-".join(map(str, (entry, space.__name__, *value))), marks=marks)


def each_case_of(name: str, values: tuple):
    """Every case with every value."""
    grid = [case(e, s, v, quick=False) for e in TABLE for s in e.norms for v in values]
    return pytest.mark.parametrize(("entry", "space", name), grid)


each_case = pytest.mark.parametrize(("entry", "space"), [case(e, s) for e in TABLE for s in e.norms])
each_case_later = pytest.mark.parametrize(("entry", "space"), [case(e, s, quick=False) for e in TABLE for s in e.norms])
each_attack = pytest.mark.parametrize(("entry", "space"), [case(e, e.norms[0], quick=False) for e in TABLE])


def threat(entry: Entry, space: type[Ball], **how) -> ThreatModel:
    return ThreatModel(space(None if entry.free else EPS[space]), **how)


@cache
def batch(n: int = 12, shape: tuple[int, ...] = (2, 3, 4), classes: int = 5):
    """A small network, inputs near its boundaries, and labels of which two are wrong."""
    features = torch.tensor(shape).prod().item()
    model, x = mlp(int(features), classes), inputs(n, shape)
    y = model(x).argmax(1)
    y[1::7] = (y[1::7] + 1) % classes
    return model, x, y


def layouts(entry: Entry):
    """The batch to lay out in other ways: in double precision for an attack that rounding leads elsewhere."""
    model, x, y = batch()
    return (copy.deepcopy(model).double(), x.double(), y) if entry.sensitive else (model, x, y)


class Spy(nn.Module):
    """Counts rows, and remembers how far from the box it was asked."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.rows, self.outside = model, 0, 0.0

    def forward(self, x):
        self.rows += len(x)
        self.outside = max(self.outside, float(-x.detach().min()), float(x.detach().max() - 1))
        return self.model(x)


@each_case
def test_it_stays_in_the_space_and_success_means_that_the_model_agrees(entry, space):
    model, x, y = batch()
    r = entry.attack(model, x, y, threat(entry, space))
    delta = r.x.double() - x.double()
    p = space.p
    size = (delta.abs().sum(1).flatten(1) != 0).sum(1) if space is L0 else norm(delta, p)
    if not entry.free:
        assert (size <= EPS[space] * (1 + 1e-6)).all()
    assert float(r.x.min()) >= 0
    assert float(r.x.max()) <= 1
    assert torch.equal(r.x, x + r.delta) or torch.allclose(r.x, x + r.delta, atol=1e-7)
    assert torch.allclose(r.distance[r.success].double(), size[r.success].double(), rtol=1e-5, atol=1e-7)
    assert r.distance[~r.success].isinf().all()
    together = model(r.x).argmax(1) != y
    alone = torch.cat([model(row[None]).argmax(1) != label for row, label in zip(r.x, y, strict=True)])
    assert torch.equal(together, r.success)
    assert torch.equal(alone[r.success], together[r.success])
    assert ((r.margin < 0) == r.success).all()


@each_case_later
def test_misclassified_inputs_are_left_alone_at_distance_zero(entry, space):
    model, x, y = batch()
    r = entry.attack(model, x, y, threat(entry, space))
    wrong = model(x).argmax(1) != y
    assert wrong.any()
    assert r.success[wrong].all()
    assert (r.distance[wrong] == 0).all()
    assert torch.equal(r.x[wrong], x[wrong])
    assert (r.forwards[wrong] == 1).all()
    assert (r.backwards[wrong] == 0).all()


@each_case
def test_no_row_depends_on_the_batch_or_the_order(entry, space):
    model, x, y = layouts(entry)
    whole = entry.attack(model, x, y, threat(entry, space), seed=3)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    parts = [entry.attack(model, x[i], y[i], threat(entry, space), seed=3, ids=i) for i in order.split(5)]
    assert torch.equal(torch.cat([p.success for p in parts]), whole.success[order])
    assert torch.equal(torch.cat([p.forwards for p in parts]), whole.forwards[order])
    assert torch.equal(torch.cat([p.backwards for p in parts]), whole.backwards[order])
    assert torch.allclose(torch.cat([p.x for p in parts]), whole.x[order], atol=2e-5)


@each_attack
def test_dense_and_compact_searches_give_the_same_result_and_bill(entry, space):
    model, x, y = layouts(entry)
    compact, dense = (entry.attack(model, x, y, threat(entry, space), dense=d) for d in (False, True))
    assert torch.equal(dense.success, compact.success)
    assert torch.equal(dense.forwards, compact.forwards)
    assert torch.allclose(dense.x, compact.x, atol=2e-5)


@each_attack
def test_the_same_seed_gives_the_same_result_to_the_bit(entry, space):
    model, x, y = batch()
    one, two = (entry.attack(model, x, y, threat(entry, space), seed=7) for _ in range(2))
    assert torch.equal(one.x, two.x)


@each_case
def test_the_bill_is_what_a_spy_saw_and_no_query_leaves_the_box(entry, space):
    model, x, y = batch()
    spy = Spy(model)
    r = entry.attack(spy, x, y, threat(entry, space))
    assert spy.rows - len(x) == int(r.forwards.sum())  # the confirmation is off the books
    assert spy.outside <= 0


@each_attack
@pytest.mark.parametrize("queries", [1, 4, 9])
def test_the_bill_never_exceeds_the_budget(entry, space, queries):
    model, x, y = batch()
    spy = Spy(model)
    r = entry.attack(spy, x, y, threat(entry, space, queries=queries))
    assert (r.forwards <= queries).all()
    assert spy.rows <= len(x) * (queries + 1)


@each_attack
def test_the_users_model_inputs_and_random_state_are_left_as_they_were(entry, space):
    _, x, y = batch()
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 5))
    model.train()
    model[2].eval()  # a mixture of modes, BatchNorm frozen
    model[3].eval()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    model[1].bias.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    random, before, labels = torch.get_rng_state(), x.clone(), y.clone()
    entry.attack(model, x, y, threat(entry, space))
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    assert all(p.grad is None for p in model.parameters() if p is not model[1].weight)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, before)
    assert torch.equal(y, labels)
    assert not x.requires_grad


@each_case_of("classes", (2, 3, 1000))
def test_it_works_from_two_classes_to_a_thousand(entry, space, classes):
    model, x, y = batch(4, entry.shape or (6,), classes)
    r = entry.attack(model, x, y, threat(entry, space))
    assert r.x.isfinite().all()
    assert r.success.any()  # at least the wrong row


@each_case_of("shape", ((3, 4, 7), (7,), (1, 5, 5), (2, 9, 1), (5, 6)))
def test_it_works_on_inputs_of_any_shape(entry, space, shape):
    model, x, y = batch(4, shape)
    if entry.shape:
        with pytest.raises(InputError, match=r"was fitted to inputs of shape .* fit another"):
            entry.attack(model, x, y, threat(entry, space))
        return
    r = entry.attack(model, x, y, threat(entry, space))
    assert r.x.shape == x.shape
    assert r.x.isfinite().all()


@each_case_of("dtype", (torch.bfloat16, torch.float64))
def test_it_works_in_other_precisions(entry, space, dtype):
    model, x, _ = batch(6)
    model, x = copy.deepcopy(model).to(dtype), x.to(dtype)
    y = model(x).argmax(1)
    r = entry.attack(model, x, y, threat(entry, space))
    assert r.x.dtype == dtype
    if not entry.free:
        delta = r.x.double() - x.double()
        size = (delta.abs().sum(1).flatten(1) != 0).sum(1) if space is L0 else norm(delta, space.p)
        assert (size <= EPS[space] * (1 + 1e-6)).all()
    assert torch.equal(model(r.x).argmax(1) != y, r.success)


@each_case
def test_it_finds_what_can_be_found_and_nothing_that_cannot(entry, space):
    model, x = Affine(classes=2), inputs()
    y = model(x).argmax(1)
    true = model.fewest(x, y) if space is L0 else model.distance(x, y, space.p)
    if entry.free:
        r = entry.attack(model, x, y, ThreatModel(L0(pixels=False) if space is L0 else space()))
        ratio = r.distance / true
        assert (ratio >= 1 - 1e-5).all()
        assert float(ratio.median()) <= 1.05 if entry.minimal else r.success.all()
        return
    below = true - 1 if space is L0 else 0.99 * true
    keep = below > 0
    make = (lambda eps: L0(eps.floor(), pixels=False)) if space is L0 else space
    x, y = x[keep], y[keep]
    assert not entry.attack(model, x, y, make(below[keep])).success.any()
    if entry.exact:
        assert entry.attack(model, x, y, make(1.05 * true[keep])).success.all()


@each_case_later
def test_a_targeted_goal_ends_in_the_target(entry, space):
    if not entry.targeted:
        pytest.skip("untargeted only")
    model, x, _ = batch()
    y = model(x).argmax(1)
    target = (y + 1) % 5
    wide = threat(entry, space, goal=Targeted())
    if not entry.free:
        wide = replace(wide, space=space(min(10 * EPS[space], 12)))
    r = entry.attack(model, x, target, wide)
    assert torch.equal(model(r.x).argmax(1) == target, r.success)
    assert r.success.any() or space is L1  # one step of one feature may fall short


@each_attack
def test_confidence_is_the_goals_and_so_every_attacks(entry, space):
    model, x, _ = batch()
    y = model(x).argmax(1)
    wide = ThreatModel(space(None if entry.free else min(6 * EPS[space], 12)), Untargeted(confidence=0.05))
    r = entry.attack(model, x, y, wide)
    assert (lead(model(r.x), y)[r.success] < -0.05).all()
    assert r.success.any()


@each_attack
def test_it_refuses_a_threat_model_that_grants_too_little(entry, space):
    model, x, y = batch()
    for access in Access:
        question = threat(entry, space, access=access)
        if access < entry.attack.access:
            with pytest.raises(AccessError, match=f"needs {entry.attack.access.name.lower()}"):
                entry.attack(model, x, y, question)
        else:
            entry.attack(model, x, y, question)


@each_attack
def test_a_bounded_attack_says_so_where_eps_is_free(entry, space):
    model, x, y = batch()
    if entry.free:
        assert entry.attack(model, x, y, space()).success.any()
    else:
        with pytest.raises(InputError, match="eps"):
            entry.attack(model, x, y, space())


@each_case_later
def test_each_sample_may_have_its_own_eps(entry, space):
    if entry.free:
        pytest.skip("minimises")
    model, x, y = batch()
    small, large = EPS[space], 2 * EPS[space]
    eps = torch.tensor([small, large] * (len(x) // 2), dtype=torch.float32)
    mixed = entry.attack(model, x, y, space(eps))
    for value, mask in ((small, eps == small), (large, eps == large)):
        alone = entry.attack(model, x, y, space(value))
        assert torch.equal(mixed.success[mask], alone.success[mask])


@each_attack
def test_settings_survive_json(entry, space):
    import json

    from sparring import spec

    if not entry.written:
        pytest.skip("its settings hold a model")
    text = json.dumps(spec.write(entry.attack), allow_nan=False)
    assert spec.read(json.loads(text)) == entry.attack


@each_attack
def test_perturb_gives_the_last_iterate_of_every_sample(entry, space):
    model, x, y = batch()
    worse = entry.attack.perturb(model, x, y, threat(entry, space))
    assert worse.shape == x.shape
    assert worse.isfinite().all()
    assert not worse.requires_grad


@each_attack
def test_an_empty_batch_is_no_error(entry, space):
    model, x, y = batch()
    assert len(entry.attack(model, x[:0], y[:0], threat(entry, space)).x) == 0
