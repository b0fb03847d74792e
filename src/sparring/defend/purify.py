"""PixelDefend: inputs redrawn pixel by pixel, each as a density of honest images finds likeliest, near what it was."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.defend.images import fit
from sparring.defend.inputs import OBFUSCATED, Filter
from sparring.errors import InputError
from sparring.models.defended import Account
from sparring.types import Batch


class PixelDensity(nn.Module, ABC):
    """A density of images in [0, 1], one pixel after another, in the order of reading; channels apart."""

    levels: int
    """How many grey levels it knows, evenly spaced from 0 to 1."""

    @abstractmethod
    def conditional(self, x: Batch, row: int, column: int) -> Tensor:
        """The log-probabilities (n × channels × levels) of a pixel's levels, given those before it in `x` alone."""


class LocalDensity(PixelDensity):
    """A pixel given the `reach` rows above it and as many columns to either side, by a network of two layers.

    Small enough to be fitted in seconds (`fit_density`); a PixelCNN, as in the paper, sees further.
    """

    def __init__(self, channels: int = 1, levels: int = 8, reach: int = 3, width: int = 64):
        super().__init__()
        self.channels, self.levels, self.reach = channels, levels, reach
        seen = channels * reach * (2 * reach + 1) + channels * reach
        self.network = nn.Sequential(
            nn.Linear(2 * seen, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, channels * levels),
        )

    def conditional(self, x: Batch, row: int, column: int) -> Tensor:
        reach = self.reach
        top, bottom, left, right = row - reach, row + 1, column - reach, column + reach + 1
        inside = x[:, :, max(top, 0) : bottom, max(left, 0) : right]
        beyond = (max(-left, 0), max(right - x.shape[3], 0), max(-top, 0), 0)
        window = F.pad(torch.cat([inside, torch.ones_like(inside)], 1), beyond)
        return self._likely(window.flatten(2))

    def everywhere(self, x: Batch) -> Tensor:
        """The same of all pixels at once, n × channels × levels × height × width."""
        reach, (height, width) = self.reach, x.shape[2:]
        wide = F.pad(torch.cat([x, torch.ones_like(x)], 1), (reach, reach, reach, 0))
        windows = F.unfold(wide, (reach + 1, 2 * reach + 1)).unflatten(1, (2 * x.shape[1], -1))
        likely = self._likely(windows.permute(0, 3, 1, 2).flatten(0, 1))
        return likely.unflatten(0, (len(x), height * width)).permute(0, 2, 3, 1).unflatten(3, (height, width))

    def _likely(self, windows: Tensor) -> Tensor:
        """Windows end with the row of the pixel itself, of which only what lies before it is read."""
        seen = windows[..., : self.reach * (2 * self.reach + 1) + self.reach].flatten(1)
        return self.network(seen).unflatten(1, (self.channels, self.levels)).log_softmax(2)


def fit_density(
    x: Batch,
    levels: int = 8,
    *,
    reach: int = 3,
    width: int = 64,
    epochs: int = 3,
    rate: float = 3e-3,
    batch_size: int = 16,
    seed: int = 0,
) -> LocalDensity:
    """A local density fitted to clean images by maximum likelihood."""
    if x.ndim != 4:
        raise InputError(f"inputs of shape {tuple(x.shape)} are no images; give n × channels × height × width")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        density = LocalDensity(x.shape[1], levels, reach, width).to(x)

    def loss(part: Batch) -> Tensor:
        level = (part * (levels - 1)).round().long()
        return -density.everywhere(level.to(part) / (levels - 1)).gather(2, level[:, :, None]).flatten(1).mean(1)

    fit(density, loss, x, epochs, rate, batch_size, seed)
    return density


class PixelDefend(Filter):
    """Each pixel in turn becomes the likeliest level within `reach` of its own, given the redrawn ones before it.

    Costs a look at the density for every pixel. Where no level of the density lies so near, the pixel stays.

    Reference: Song, Kim, Nowozin, Ermon & Kushman, "PixelDefend: leveraging generative models to understand and defend
    against adversarial examples", ICLR 2018, arXiv:1710.10766, algorithm 1. Broken by Athalye, Carlini & Wagner, ICML
    2018, arXiv:1802.00420, section 5.4.1.
    """

    def __init__(self, density: PixelDensity, reach: float):
        super().__init__()
        if not reach > 0:
            raise InputError(f"reach is {reach}; it must be above 0, about the eps of the attack to stand against")
        self.density, self.reach = density, reach

    def filtered(self, x: Tensor) -> Tensor:
        redrawn = x.clone()
        shades = torch.linspace(0, 1, self.density.levels, device=x.device, dtype=x.dtype)
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                likely, own = self.density.conditional(redrawn, row, column), x[:, :, row, column]
                near = (shades - own[..., None]).abs() <= self.reach + 1e-6
                best = shades[likely.masked_fill(~near, -torch.inf).argmax(2)]
                redrawn[:, :, row, column] = best.where(near.any(2), own)
        return redrawn

    @property
    def account(self) -> Account:
        does = "has its inputs redrawn by a density of honest ones (PixelDefend)"
        return Account(does, "through the redrawing (BPDA)", OBFUSCATED)
