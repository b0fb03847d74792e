"""Square Attack: where its squares lie, what it asks, and what it finds."""

import math

import pytest
import torch

from known import Affine, inputs, mlp
from sparring import geometry
from sparring.attacks import Square
from sparring.attacks.hills import hill, tile
from sparring.attacks.square import _Picture
from sparring.errors import InputError
from sparring.spaces import L0, L1, L2, Linf
from sparring.threat import Access, ThreatModel

each_norm = pytest.mark.parametrize("space", [Linf, L2, L1])
SIZES = [(1, 1, 1), (3, 4, 4), (1, 24, 24), (2, 3, 9), (1, 1, 30), (1, 30, 1), (4, 5, 6), (11,), (5, 7), (2, 3, 4, 5)]


class Recorder:
    """A model of two classes that never gives in, and remembers what it was asked; its scores fall at random."""

    def __init__(self, improve: float = 0.5):
        self.asked, self.improve = [], improve
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, x):
        self.asked.append(x.clone())
        lead = 1 + 1e3 * self.improve ** len(self.asked) * torch.rand(len(x), generator=self.generator)
        return torch.stack([lead, torch.zeros_like(lead)], 1)


def candidates(space, shape, queries=40, n=5, **settings):
    """Every point that the attack asks about, n × queries × shape, as a change."""
    model, x = Recorder(), torch.full((n, *shape), 0.5)
    Square(queries=queries, **settings)(model, x, torch.zeros(n, dtype=torch.long), space)
    return torch.stack(model.asked[1:-1], 1) - 0.5  # all but the clean input and the confirmation


@each_norm
def test_no_pixel_is_out_of_reach_and_none_is_favoured_along_the_edge(space):
    picture = _Picture(1, 9, 7)
    where = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0))
    least = 1 if space is Linf else 3
    height, width = picture.window(0.2, least)
    place = picture.place(where, (height, width))[:, 0]
    corners = torch.bincount(place.amin(1), minlength=63).reshape(9, 7)
    allowed = torch.zeros(9, 7, dtype=torch.bool)
    allowed[: 9 - height + 1, : 7 - width + 1] = True
    assert ((corners > 0) == allowed).all()  # the last row and the last column as well
    expected = len(where) / allowed.sum()
    assert (corners[allowed] - expected).abs().max() < 5 * math.sqrt(expected)
    touched = torch.bincount(place.flatten(), minlength=63).reshape(9, 7)
    assert (touched[-1] > 0).all()
    assert (touched[:, -1] > 0).all()


def test_the_search_itself_changes_the_last_row_and_column():
    change = candidates(Linf(0.1), (1, 8, 8), queries=300, n=4)
    moved = (change[:, 1:] != change[:, :-1]).flatten(2).any(0).sum(0).reshape(8, 8)
    assert (moved > 0).all()


@each_norm
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_it_works_on_pictures_of_every_size(space, shape):
    eps = 0.2 if space is Linf else 1.0
    change = candidates(space(eps), shape)
    assert change.isfinite().all()
    size = geometry.norm(change.flatten(0, 1), space.p)
    assert (size <= eps * (1 + 1e-5)).all()
    assert size.max() > 0.2 * min(eps, 0.5)


@each_norm
def test_it_asks_exactly_as_often_as_it_says(space):
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    r = Square(queries=30)(model, x, y, space(1e-6))
    standing = ~r.success
    assert standing.any()
    assert (r.forwards[standing] == 1 + 30 + 1).all()  # the clean input, the queries, the last candidate
    assert (r.backwards == 0).all()
    budget = Square(queries=30)(model, x, y, ThreatModel(space(1e-6), queries=9))
    assert (budget.forwards <= 9).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_no_query_repeats_the_point_that_it_started_from(channels):
    change = candidates(Linf(0.1), (channels, 6, 6), queries=400, n=3)
    best, value = change[:, 0], torch.full((3,), torch.inf)
    model = Recorder()
    model(best)  # the clean input's turn
    for t in range(change.shape[1] - 1):
        out = model(change[:, t])
        better = out[:, 0] < value
        value, best = (
            torch.where(better, out[:, 0], value),
            torch.where(better[:, None, None, None], change[:, t], best),
        )
        assert (change[:, t + 1] != best).flatten(1).any(1).all(), t


def test_in_linf_every_pixel_is_at_an_end_of_its_room():
    model, x = Recorder(), inputs(6, (2, 5, 5), spread=1.0)
    Square(queries=60)(model, x, torch.zeros(6, dtype=torch.long), Linf(0.1))
    for asked in model.asked[1:]:
        low, high = (x - 0.1).clamp_min(0), (x + 0.1).clamp_max(1)
        assert (torch.minimum((asked - low).abs(), (asked - high).abs()) < 1e-6).all()


def test_in_linf_it_starts_with_stripes_and_then_changes_one_square_in_one_colour():
    change = candidates(Linf(0.1), (3, 10, 10), queries=2, n=50, p_init=0.25)
    start, after = change[:, 0], change[:, 1]
    assert (start == start[:, :, :1]).all()  # stripes: every row is the first one
    moved = (start - after).abs() > 1e-3
    for i in range(50):
        rows, columns = moved[i].any(0).any(1).nonzero(), moved[i].any(0).any(0).nonzero()
        assert rows.numel() == 5
        assert 1 <= columns.max() - columns.min() + 1 <= 5
        for channel in range(3):
            values = after[i, channel][moved[i, channel]]
            assert values.numel() == 0 or (values == values[0]).all()


@pytest.mark.parametrize("space", [L2, L1])
def test_in_l2_and_l1_a_square_takes_what_another_one_gives(space):
    change = candidates(space(0.4), (1, 20, 20), queries=30)
    size = geometry.norm(change.flatten(0, 1), space.p)
    assert torch.allclose(size, torch.full_like(size, 0.4), rtol=1e-4)  # nothing is left unused, and nothing overdrawn


def test_each_sample_has_its_own_squares_and_keeps_them_in_any_batch():
    model, x = mlp(48), inputs(9, (3, 4, 4))
    y = model(x).argmax(1)
    for space in (Linf(0.02), L2(0.05), L1(0.1)):
        whole = Square(queries=70)(model, x, y, space)
        ids = torch.arange(9)
        parts = [Square(queries=70)(model, x[i], y[i], space, ids=i) for i in (ids[:2], ids[2:])]
        assert torch.equal(torch.cat([p.forwards for p in parts]), whole.forwards)
        assert torch.allclose(torch.cat([p.x for p in parts]), whole.x, atol=1e-6)
    change = candidates(Linf(0.1), (1, 8, 8), queries=2)
    assert not (change[:, 1] == change[:1, 1]).flatten(1).all(1)[1:].any()


def test_squares_shrink_as_published():
    picture = _Picture(3, 32, 32)
    sides = [picture.window(0.8 / 2**k, 1)[0] for k in range(8)]
    assert sides == [29, 20, 14, 10, 7, 5, 4, 3]
    assert [picture.window(0.8 / 2**k, 3)[0] for k in range(8)] == [29, 21, 15, 11, 7, 5, 5, 3]
    assert _Picture(1, 1, 100).window(0.25, 1) == (1, 25)
    assert _Picture(1, 100, 1).window(0.25, 1) == (25, 1)
    assert _Picture(1, 4, 50).window(0.5, 1) == (4, 25)


def test_the_schedule_can_be_stretched_over_the_queries():
    short = candidates(Linf(0.1), (1, 16, 16), queries=100, rescale=True)
    plain = candidates(Linf(0.1), (1, 16, 16), queries=100)

    def area(change):
        return ((change[:, 1:] - change[:, :-1]) != 0).flatten(2).sum(2).float().mean(0)[-20:].mean()

    assert area(short) < area(plain)


def test_a_hill_falls_from_its_middle_by_the_papers_sums():
    high = hill(5, 5, 2)
    terms = torch.tensor([1.0, 1 / 4, 1 / 9])
    rings = torch.stack([terms.sum(), terms[1:].sum(), terms[2:].sum()])
    assert torch.allclose(high[2, 2:], rings / high.norm() * high.norm() * (high[2, 2] / rings[0]))
    assert high.argmax() == 12
    for power in (1, 2):
        shape = tile(6, 4, power)
        assert float(geometry.norm(shape[None], power)) == pytest.approx(1.0)
        assert (shape[:3] > 0).all()
        assert (shape[3:] < 0).all()


@each_norm
@pytest.mark.parametrize("classes", [2, 3])
def test_it_crosses_an_affine_boundary_beyond_the_true_distance_and_never_before(space, classes):
    model, x = Affine(144, classes), inputs(shape=(1, 12, 12))
    y = model(x).argmax(1)
    true = model.distance(x, y, space.p)
    x, y, true = (v[true > 1e-4] for v in (x, y, true))  # nearer, rounding decides
    far = {Linf: 2.5, L2: 3.0, L1: 4.0}[space]
    assert Square(queries=600)(model, x, y, ThreatModel(space(far * true), access=Access.SCORES)).success.all()
    assert not Square(queries=100)(model, x, y, space(0.99 * true)).success.any()


def test_it_refuses_a_space_that_it_has_no_squares_for():
    model, x = Affine(), inputs()
    with pytest.raises(InputError, match="Square works in Linf or L2 or L1, not in L0"):
        Square()(model, x, model(x).argmax(1), L0(3))


def test_squares_that_do_not_help_are_given_up_and_those_that_do_go_on():
    x, y, calls = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.long), [0]

    def falling(x):
        calls[0] += 1
        return torch.tensor([[1 / calls[0], 0.0]]).expand(len(x), 2)

    still = Square(160, hope=0.01)(lambda x: torch.tensor([[1.0, 0.0]]).expand(len(x), 2), x, y, Linf(0.1))
    ends = Square(160)(falling, x, y, Linf(0.1))
    calls[0] = 0
    goes_on = Square(160, hope=0.01)(falling, x, y, Linf(0.1))
    assert still.forwards.tolist() == [8] * 3  # the clean input, up to a 32nd of the candidates, and the last point
    assert goes_on.forwards.tolist() == ends.forwards.tolist() == [162] * 3


@pytest.mark.parametrize(("pace", "near", "asked"), [(0.999, 0.1, 162), (0.999, 0.04, 13), (1.0, 0.1, 13)])
def test_squares_go_on_near_the_goal_for_whom_they_help_at_all(pace, near, asked):
    x, y, calls = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.long), [0]

    def close(x):
        calls[0] += 1
        return torch.tensor([[1.0 if calls[0] == 1 else 0.05 * pace ** calls[0], 0.0]]).expand(len(x), 2)

    r = Square(160, hope=0.5, near=near)(close, x, y, Linf(0.1))
    assert r.forwards.tolist() == [asked] * 3
