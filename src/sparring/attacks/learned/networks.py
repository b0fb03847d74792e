"""The networks that AdvGAN is made of: settings that build a module, and the module that they build."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.errors import InputError
from sparring.types import Batch, Delta


@dataclass(frozen=True)
class Residual:
    """A generator from images to perturbations in [-1, 1]: down twice, residual blocks, up twice.

    Reference: Xiao et al., "Generating adversarial examples with adversarial networks", IJCAI 2018, arXiv:1801.02610:
    c3s1-8, d16, d32, four times r32, u16, u8, c3s1 in the notation of Johnson et al. and Zhu et al. Unlike there, it
    goes up by repeating pixels before a convolution, which fits images of every size and leaves no checkerboard, and
    normalises each channel of each image by itself, so that no row of a batch sees another.
    """

    shape: tuple[int, ...]
    """Of the images: channels × height × width."""
    width: int = 8
    blocks: int = 4

    def __post_init__(self) -> None:
        _check(self.shape)

    def build(self) -> "Hourglass":
        """The network, an `Hourglass`, with fresh weights from torch's generator."""
        w = self.width
        down = [_Layer(self.shape[0], w), _Layer(w, 2 * w, stride=2), _Layer(2 * w, 4 * w, stride=2)]
        return Hourglass(
            down, [_Block(4 * w) for _ in range(self.blocks)], [_Layer(4 * w, 2 * w), _Layer(2 * w, w)], self.shape
        )


@dataclass(frozen=True)
class Decoder:
    """A generator from a model's features, and noise, to images in [0, 1].

    Reference: Jandial et al., "AdvGAN++: harnessing latent layers for adversary generation", ICCV workshops 2019,
    arXiv:1908.00706, section 3.
    """

    shape: tuple[int, ...]
    """Of the images: channels × height × width."""
    features: int
    """How many features the model gives of one image."""
    noise: int = 16
    width: int = 16

    def __post_init__(self) -> None:
        _check(self.shape)

    def build(self) -> nn.Module:
        """The network, with fresh weights from torch's generator."""
        return _Painter(self)


def discriminator(shape: tuple[int, ...], width: int = 8) -> nn.Module:
    """One score an image: C8, C16, C32 and a linear layer, as in AdvGAN's paper."""
    layers: list[nn.Module] = []
    for channels, count in ((shape[0], width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(channels, count, 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
    trunk = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        size = trunk(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(trunk, nn.Linear(size, 1), nn.Flatten(0))


class _Norm(nn.GroupNorm):
    """Every channel of every image brought to mean 0 and spread 1, even where a channel is a single pixel."""

    def __init__(self, channels: int):
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class _Layer(nn.Sequential):
    """Convolution, normalisation, rectifier."""

    def __init__(self, channels: int, count: int, *, stride: int = 1):
        super().__init__(nn.Conv2d(channels, count, 3, stride, padding=1), _Norm(count), nn.ReLU())


class _Block(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, width: int):
        super().__init__()
        self.inside = nn.Sequential(_Layer(width, width), nn.Conv2d(width, width, 3, padding=1), _Norm(width))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.inside(h)


class Hourglass(nn.Module):
    """The residual generator: a code of an image, and the perturbation that the code stands for."""

    def __init__(self, down: list[_Layer], blocks: list[_Block], up: list[_Layer], shape: tuple[int, ...]):
        super().__init__()
        self.down, self.blocks, self.up = nn.ModuleList(down), nn.Sequential(*blocks), nn.ModuleList(up)
        self.last = nn.Conv2d(down[0][0].out_channels, shape[0], 3, padding=1)  # pyright: ignore[reportArgumentType]
        self.size = (shape[1], shape[2])

    def forward(self, x: Batch) -> Batch:
        return self.decode(self.encode(x))

    def encode(self, x: Batch) -> Tensor:
        """Channels × a quarter of the height × a quarter of the width, of each image."""
        h = 2 * x - 1
        for layer in self.down:
            h = layer(h)
        return h

    def decode(self, h: Tensor) -> Delta:
        """The perturbation, in [-1, 1], that a code stands for."""
        h, halves = self.blocks(h), (-(-self.size[0] // 2), -(-self.size[1] // 2))
        for layer, size in zip(self.up, (halves, self.size), strict=True):
            h = layer(F.interpolate(h, size=size))
        return self.last(h).tanh()


class _Painter(nn.Module):
    """The generator from features."""

    def __init__(self, how: Decoder):
        super().__init__()
        channels, height, width = how.shape
        self.small, self.size = (4 * how.width, -(-height // 4), -(-width // 4)), (height, width)
        self.first = nn.Linear(how.features + how.noise, self.small[0] * self.small[1] * self.small[2])
        self.up = nn.ModuleList([_Layer(4 * how.width, 2 * how.width), _Layer(2 * how.width, how.width)])
        self.last = nn.Conv2d(how.width, channels, 3, padding=1)

    def forward(self, code: Tensor) -> Batch:
        h = self.first(code).relu().reshape(-1, *self.small)
        middle = (-(-self.size[0] // 2), -(-self.size[1] // 2))
        for layer, size in zip(self.up, (middle, self.size), strict=True):
            h = layer(F.interpolate(h, size=size))
        return self.last(h).sigmoid()


def _check(shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise InputError(f"inputs have shape {shape}; a generator works on images: channels × height × width")
