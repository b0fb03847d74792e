"""Square Attack: random search over square patches, by scores alone."""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from sparring import geometry
from sparring.attack import ScoreAttack
from sparring.attacks.hills import tile
from sparring.losses import Loss, Point, margin
from sparring.problem import Scores
from sparring.spaces import L1, L2, Ball, Linf, ball
from sparring.types import Delta, rows

Window: TypeAlias = tuple[int, int]  # height and width
Change: TypeAlias = Callable[[Tensor, Tensor, Window], Tensor]  # the next candidate, from the best and random numbers

SHRINK = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # candidates after which the squares halve in area
STIR = 0.003  # the share of its loss that a sample must have lost by the first look, a 32nd of the candidates
AHEAD = 64  # candidates to draw for at once: a small draw takes as long as a large one


@dataclass(frozen=True)
class Square(ScoreAttack):
    """Change a random square of the best point so far, and keep the change where it lowers the loss.

    Squares lie anywhere in the picture, each sample's its own, and shrink as the search goes on. In L∞ a square takes
    one colour at full eps; in L2 and L1, the budget of another square. Inputs are n × … × height × width, or rows of
    features, pictures of height 1; too narrow a picture gets rectangles. Asks `queries` + 1 times.

    Reference: Andriushchenko, Croce, Flammarion & Hein, "Square Attack: a query-efficient black-box adversarial attack
    via random search", ECCV 2020, arXiv:1912.00049, algorithms 1 to 3. In L1: Croce & Hein, "Mind the box: l1-APGD for
    sparse adversarial attacks on image classifiers", ICML 2021, arXiv:2103.01208, section 4.
    """

    queries: int = 5000
    p_init: float = 0.8  # the share of the picture that the first squares cover
    rescale: bool = False  # stretch the squares' schedule, which is made for 10,000 queries, over `queries`
    warm: bool = False  # begin at the best point of the searches before, not at random
    loss: Loss = margin
    beside: int = 1  # candidates asked about in one call, of which the best may be kept; the paper's 1 is a chain
    hope: float = 0.0  # leave alone whose loss falls by less than this share while they double, or at first hardly
    near: float = 0.0  # … but not who stirs, and is ahead of a line from this share of the clean input's loss to none

    def search(self, p: Scores, /) -> Delta:
        if p.copies < self.beside:
            return p.crowd(self.beside, self.search)
        with p.random.apart():  # where all are given up the search ends sooner, and later draws must not tell
            return self._search(p)

    def _search(self, p: Scores) -> Delta:
        space = ball(p.space, self, Linf, L2, L1)
        *channels, height, width = (1, 1, *p.x.shape[1:])
        picture, least = _Picture(math.prod(channels), height, width), 1 if isinstance(space, Linf) else 3
        windows = [picture.window(self.p_init / 2**k, least) for k in range(len(SHRINK) + 1)]
        candidate, change = (_colours if isinstance(space, Linf) else _hills)(p, space, picture, windows)
        candidate = draws = p.best.reshape(candidate.shape) if self.warm else candidate
        delta, value = torch.zeros_like(candidate), torch.full_like(p.eps, torch.inf)
        start, before, given_up, calls = value, value, torch.zeros_like(p.eps).bool(), -(-self.queries // p.copies)
        clean = self.loss(Point(torch.zeros_like(p.x), p.clean, p.goal)) if self.hope else value
        looks = [0, *(max(calls // 32, 1) << k for k in range(6))]
        for t in p.steps(calls):
            found = p.value(candidate.reshape(p.x.shape), self.loss)
            better = (found < value) & ~given_up
            value, delta = p.shared(value.where(~better, found), delta.where(~rows(better, delta), candidate))
            if self.hope and t in looks:
                stirs = (value < (1 - STIR) * start) | (t <= looks[1])
                stuck = value > (1 - (self.hope if t > looks[1] else STIR)) * before
                given_up |= stuck & (value > stirs * self.near * (1 - t / calls) * clean)
                start, before = value if t == 0 else start, before if t == looks[1] else value
                p.rest(given_up)
            draws = p.random.uniform(AHEAD, 5 + picture.channels) if t % AHEAD == 0 else draws
            age = t * p.copies * 10_000 // self.queries if self.rescale else t * p.copies
            candidate = change(delta, draws[:, t % AHEAD], windows[bisect_left(SHRINK, age)])
        return torch.where(rows(given_up, delta), delta, candidate).reshape(p.x.shape)


class _Picture(NamedTuple):
    """How an input lies in the plane."""

    channels: int
    height: int
    width: int

    def window(self, share: float, least: int) -> Window:
        """The square of this share of the area, or a rectangle; in L2 and L1 at least 3 wide, and odd."""
        side = max(round(math.sqrt(share * self.height * self.width)), least) | (least > 1)
        short, long = sorted((self.height, self.width))
        a, b = (side, side) if side <= short else (short, min(max(round(share * long), side), long))
        return (a, b) if self.height <= self.width else (b, a)

    def place(self, where: Tensor, window: Window) -> Tensor:
        """The pixels of each sample's window, n × channels × pixels; `where` is n × 2 in [0, 1), last row included."""
        down, across = (torch.arange(size, device=where.device) for size in window)
        top = (where[:, :1] * (self.height - window[0] + 1)).long() + down
        left = (where[:, 1:] * (self.width - window[1] + 1)).long() + across
        return (top[:, :, None] * self.width + left[:, None]).flatten(1)[:, None].expand(-1, self.channels, -1)


def _colours(p: Scores, space: Ball, picture: _Picture, _: list[Window]) -> tuple[Tensor, Change]:
    """In L∞: vertical stripes, then squares of one colour. Every pixel is always at one end of its room."""
    ends = (torch.full_like(p.x, -torch.inf), torch.full_like(p.x, torch.inf))
    low, high = (space.project(p.x, end).reshape(len(end), picture.channels, -1) for end in ends)
    stripes = p.random.signs(picture.channels, 1, picture.width).expand(-1, -1, picture.height, -1)

    def change(delta: Tensor, draws: Tensor, window: Window) -> Tensor:
        place = picture.place(draws[:, :2], window)
        bottom, top, up = low.gather(2, place), high.gather(2, place), draws[:, 5:, None] < 0.5
        same = (torch.where(up, top, bottom) == delta.gather(2, place)).flatten(1).all(1)
        up = up ^ rows(same, up)  # a square that changes nothing would waste its query: take the opposite colour
        return delta.scatter(2, place, torch.where(up, top, bottom))

    return torch.where(stripes.flatten(2) > 0, high, low), change


def _hills(p: Scores, space: Ball, picture: _Picture, windows: list[Window]) -> tuple[Tensor, Change]:
    """In L2 and L1: tiles, then hills with hollows, for what another square gives up (in L1 more, as published)."""
    channels, height, width = picture
    power, side = int(space.p), max(min(height, width) // 5, 1)
    tiles = {(h, w): (tile(h, w, power).to(p.x), tile(w, h, power).T.to(p.x)) for h, w in {*windows, (side, side)}}

    def mass(delta: Tensor) -> Tensor:
        return delta.abs().pow(power).sum(2, keepdim=True)

    def fit(delta: Tensor) -> Tensor:
        return space.project(p.x, delta.reshape(p.x.shape)).reshape(delta.shape)

    def change(delta: Tensor, draws: Tensor, window: Window) -> Tensor:
        here, there = picture.place(draws[:, :2], window), picture.place(draws[:, 2:4], window)
        old, rest = delta.gather(2, here), delta.scatter(2, here, 0)
        given, rest = rest.gather(2, there), rest.scatter(2, there, 0)
        unused = (rows(p.eps, delta) ** power - mass(delta).sum(1, keepdim=True)).clamp_min(0)
        budget = (channels if power == 1 else 1) * (mass(old) + mass(given) + unused / channels) ** (1 / power)
        hill = torch.where(draws[:, 4:5] < 0.5, *(one.flatten() for one in tiles[window]))[:, None]
        raised = F.normalize(torch.where(draws[:, 5:, None] < 0.5, hill, -hill) + F.normalize(old, power, 2), power, 2)
        return fit(rest.scatter(2, here, budget * raised))

    down, across = height // side, width // side
    signs = [p.random.signs(count, down, across) for count in (1, channels)]
    kind, sign = (v.repeat_interleave(side, 2).repeat_interleave(side, 3) for v in signs)
    above, beside = (one.repeat(down, across) for one in tiles[side, side])
    around = [(size % side + more) // 2 for size in (width, height) for more in (0, 1)]
    delta = F.pad(sign * torch.where(kind > 0, above, beside), around).flatten(2)
    return fit(delta * rows((p.eps / geometry.norm(delta, power)).clamp_min(1), delta)), change
