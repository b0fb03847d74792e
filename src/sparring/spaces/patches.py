"""A patch somewhere on the image, or a frame around it: every change is allowed there, and none elsewhere."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring import geometry
from sparring.errors import InputError
from sparring.random import Random
from sparring.spaces.parameters import Parameters, pictures
from sparring.types import Batch, Delta, PerSample, rows


@dataclass(frozen=True, eq=False)
class Patch(Parameters):
    """A rectangle of `height` × `width` pixels, changed by up to eps (in units of the box's width; 1: to anything).

    δ is n × (channels · height · width + 2): the change of each value of the patch, in [-eps, eps], and where its
    corner is (row, column), each in [-1, 1] of the room that there is. Places are whole pixels; their gradient is half
    the difference between the patch a pixel further on and a pixel back, so that a search by gradients moves it as
    well. With `place`, it stays there, and the last two numbers mean nothing.

    A patch that must work under changes of view is attacked in a model that holds them:
    `Averaged(nn.Sequential(RandomResize(0.8), model), 8)`.

    Reference: Brown, Mané, Roy, Abadi & Gilmer, "Adversarial patch", NIPS 2017 workshop, arXiv:1712.09665; a patch an
    image: Karmon, Zoran & Goldberg, "LaVAN: localized and visible adversarial noise", ICML 2018, arXiv:1801.02608.
    """

    height: int = 5
    width: int = 5
    place: tuple[int, int] | None = None
    """Row and column of the corner nearest to the first pixel; None lets each sample's patch go where it will."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.height, self.width, *(self.place or (0,))) < 0 or not self.height * self.width:
            at, place = ("", "") if self.place is None else (f" at {self.place}", ", and a place from (0, 0)")
            raise InputError(f"the patch is {self.size}{at}; give sides from 1 pixel{place}")

    @property
    def size(self) -> str:
        """Its height and width in pixels, as one says them."""
        return f"{self.height} × {self.width}"

    def shape(self, x: Batch) -> tuple[int, ...]:
        channels, *sides = pictures(x, self)
        place = self.place or (0, 0)
        if any(
            corner + side > whole for corner, side, whole in zip(place, (self.height, self.width), sides, strict=True)
        ):
            raise InputError(
                f"a patch of {self.size} at {place} leaves images of {sides[0]} × {sides[1]}; "
                f"give a smaller one, or another place"
            )
        return (channels * self.height * self.width + 2,)

    def draw(self, x: Batch, random: Random) -> Delta:
        """Any change, anywhere."""
        unit = 2 * random.uniform(*self.shape(x)) - 1
        change, place = unit[:, :-2], unit[:, -2:]
        return self._whole(change * rows(self.allowed(x), change).clamp_max(1), place)

    def apply(self, x: Batch, delta: Delta) -> Batch:
        down, across = self._placed(x, delta)
        return self.clip(x + self._span * (down @ self._content(x, delta) @ across.mT))

    def covered(self, x: Batch, delta: Delta) -> Tensor:
        """Where the patch is: 1 there and 0 elsewhere, n × 1 × height × width."""
        down, across = self._placed(x, delta)
        return (down.sum(3, keepdim=True) @ across.sum(3, keepdim=True).mT).round()

    def showing(self, x: Batch, content: Tensor, delta: Delta) -> Delta:
        """The δ that shows this content (n or 1 × channels × height × width) where `delta` has its patch."""
        down, across = self._placed(x, delta)
        change = (content - down.mT @ x @ across) / self._span
        return torch.cat([change.flatten(1), delta[:, -2:]], 1)

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        return geometry.norm(delta[:, :-2], torch.inf)

    def project(self, x: Batch, delta: Delta) -> Delta:
        most = rows(self.allowed(x), delta).clamp_max(1)
        return self._whole(delta[:, :-2].clamp(-most, most), delta[:, -2:].clamp(-1, 1))

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """Every value of the patch moves by one against its slope, and so does its place."""
        return self._whole(-gradient[:, :-2].sign(), -gradient[:, -2:].sign())

    def _whole(self, change: Tensor, place: Tensor) -> Delta:
        return torch.cat([change, place if self.place is None else torch.zeros_like(place)], 1)

    def _content(self, x: Batch, delta: Delta) -> Tensor:
        return delta[:, :-2].unflatten(1, (x.shape[1], self.height, self.width))

    def _placed(self, x: Batch, delta: Delta) -> tuple[Tensor, Tensor]:
        """The matrices (n × 1 × image side × patch side) that put rows and columns of the patch where they belong."""
        sides = (self.height, self.width)
        placed: list[Tensor] = []
        for axis, (side, whole) in enumerate(zip(sides, x.shape[2:], strict=True)):
            room = whole - side
            corner = (delta[:, axis - 2] + 1) / 2 * room
            if self.place is not None:
                corner = torch.full_like(corner, self.place[axis])
            here = corner.detach().round()
            on, back = (_shifted(place, side, whole) for place in ((here + 1).clamp_max(room), (here - 1).clamp_min(0)))
            slope = (on - back) / 2 * (corner - corner.detach())[:, None, None]
            placed.append((_shifted(here, side, whole) + slope)[:, None])
        return placed[0], placed[1]

    @property
    def _span(self) -> float:
        low, high = self.box
        return float(high - low)


def _shifted(corner: PerSample, side: int, whole: int) -> Tensor:
    """The matrix n × whole × side that puts `side` entries at `corner`, a whole number."""
    to = torch.arange(whole, device=corner.device)[:, None] - torch.arange(side, device=corner.device)
    return (to == corner[:, None, None]).to(corner.dtype)


@dataclass(frozen=True, eq=False)
class Frame(Parameters):
    """The `width` outermost pixels on every side, changed by up to eps (in units of the box's width; 1: to anything).

    δ is n × (channels · height · width of the image), and 0 inside the frame.

    Reference: Zajac, Zołna, Rostamzadeh & Pinheiro, "Adversarial framing for image and video classification", AAAI 2019
    workshop, arXiv:1812.04599.
    """

    width: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise InputError(f"the frame is {self.width} pixels wide; give 1 or more")

    @property
    def size(self) -> str:
        """Its width, as one says it."""
        return f"{self.width} px"

    def shape(self, x: Batch) -> tuple[int, ...]:
        channels, height, width = pictures(x, self)
        if 2 * self.width >= (side := min(height, width)):
            most = f"give at most {(side - 1) // 2}" if side > 2 else "give larger images"
            raise InputError(f"a frame {self.width} pixels wide covers images of {height} × {width} wholly; {most}")
        return (channels * height * width,)

    def draw(self, x: Batch, random: Random) -> Delta:
        """Any change of the frame."""
        return self.project(x, (2 * random.uniform(*self.shape(x)) - 1) * self.allowed(x).clamp_max(1)[:, None])

    def apply(self, x: Batch, delta: Delta) -> Batch:
        low, high = self.box
        return self.clip(x + float(high - low) * delta.reshape(x.shape))

    def distance(self, x: Batch, delta: Delta) -> PerSample:
        return geometry.norm(delta, torch.inf)

    def project(self, x: Batch, delta: Delta) -> Delta:
        most = rows(self.allowed(x), delta).clamp_max(1)
        return delta.clamp(-most, most) * self._mask(x)

    def steepest(self, x: Batch, delta: Delta, gradient: Delta) -> Delta:
        """Every value of the frame moves by one against its slope."""
        return -gradient.sign() * self._mask(x)

    def _mask(self, x: Batch) -> Tensor:
        """1 in the frame, 0 inside it."""
        _, height, width = pictures(x, self)
        w = self.width
        mask = torch.ones_like(x[:1])
        mask[:, :, w : height - w, w : width - w] = 0
        return mask.flatten(1)
