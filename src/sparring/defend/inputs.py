"""Filters in front of a model, for images in [0, 1] (n × channels × height × width): `nn.Sequential(filter, model)`.

None of them is a strong defence. Each answers with the filter's own values and a gradient that attacks can use, so that
the model behind it is always attacked adaptively; `filtered` puts filters and model together as they must be judged.
"""

from abc import abstractmethod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparring.errors import InputError
from sparring.grids import tent
from sparring.models import BPDA, JPEG, Averaged
from sparring.models.defended import Account, Defence

OBFUSCATED = "Athalye, Carlini & Wagner 2018, arXiv:1802.00420"
WEAK = "He, Wei, Chen, Carlini & Song 2017, arXiv:1706.04701"


class Filter(Defence):
    """A filter without a gradient worth following: attacks take that of the identity (BPDA)."""

    @abstractmethod
    def filtered(self, x: Tensor) -> Tensor:
        """What the filter makes of the images; of the same shape."""

    @final
    def forward(self, x: Tensor) -> Tensor:
        """The filtered images, to the bit."""
        return BPDA(self.filtered)(x)


class BitDepth(Filter):
    """Fewer grey levels: 2 ** `bits` of them, evenly spaced from 0 to 1.

    Reference: Xu, Evans & Qi, "Feature squeezing: detecting adversarial examples in deep neural networks", NDSS 2018,
    arXiv:1704.01155, section III-A.
    """

    def __init__(self, bits: int = 3):
        super().__init__()
        if not 1 <= bits <= 8:
            raise InputError(f"bits is {bits}; give 1 to 8")
        self.bits = bits

    def filtered(self, x: Tensor) -> Tensor:
        most = 2**self.bits - 1
        return (x * most).round() / most

    @property
    def account(self) -> Account:
        plural = "" if self.bits == 1 else "s"
        return Account(f"rounds its inputs to {self.bits} bit{plural}", "through the rounding (BPDA)", OBFUSCATED)


class Contrast(Filter):
    """Black below `low`, white above `high`, and evenly stretched in between.

    On images that are nearly all black or white, no change smaller than `low` is seen in either. What it hides from
    gradients BPDA shows, so only a model trained behind it, against attacks through it, gains. The first layers of
    robust MNIST models learn to do the same, as their inspection showed in Madry, Makelov, Schmidt, Tsipras & Vladu,
    "Towards deep learning models resistant to adversarial attacks", ICLR 2018, arXiv:1706.06083.
    """

    def __init__(self, low: float = 0.4, high: float = 0.6):
        super().__init__()
        if not 0 <= low < high <= 1:
            raise InputError(f"the range of Contrast is {low} to {high}; give 0 <= low < high <= 1")
        self.low, self.high = low, high

    def filtered(self, x: Tensor) -> Tensor:
        return ((x - self.low) / (self.high - self.low)).clamp(0, 1)

    @property
    def account(self) -> Account:
        return Account(f"stretches contrast ({self.low:g} to {self.high:g})", "through the clipping (BPDA)", OBFUSCATED)


class Compressed(Defence):
    """The images after JPEG; see `sparring.models.JPEG`, whose gradient goes straight through the rounding.

    Reference: Das et al., "Keeping the bad guys out: protecting and vaccinating deep learning with JPEG compression",
    2017, arXiv:1705.02900; Guo, Rana, Cissé & van der Maaten, "Countering adversarial images using input
    transformations", ICLR 2018, arXiv:1711.00117.
    """

    def __init__(self, quality: int = 75):
        super().__init__()
        self.codec = JPEG(quality)

    def forward(self, x: Tensor) -> Tensor:
        """The decoded images."""
        return self.codec(x)

    @property
    def account(self) -> Account:
        does = f"compresses its inputs (JPEG, quality {self.codec.quality})"
        return Account(does, "through the codec, straight through its rounding", OBFUSCATED)


class Median(Defence):
    """Each pixel becomes the median of a window of `size` × `size`, the edges reflected; of an even count, the lower.

    Its own gradient, that of the pixel which is the median, serves attacks well.

    Reference: Xu, Evans & Qi 2018, arXiv:1704.01155, section III-B.
    """

    def __init__(self, size: int = 3):
        super().__init__()
        if size < 2:
            raise InputError(f"size is {size}; a window of 2 is the smallest that does anything")
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """The smoothed images."""
        before = self.size // 2
        after = self.size - 1 - before
        wide = F.pad(x, (before, after, before, after), mode="reflect")
        windows = wide.unfold(2, self.size, 1).unfold(3, self.size, 1)
        return windows.flatten(-2).median(-1).values

    @property
    def account(self) -> Account:
        return Account(
            f"smooths its inputs (median of {self.size} × {self.size})", "through the median's own slope", WEAK
        )


class NonLocalMeans(Defence):
    """Each pixel becomes a mean of those around it, weighted by how alike the patches about them are.

    The weight of two patches is exp(-d² / strength²), d² the mean squared difference of their pixels. Costs `search`²
    passes over the images, which is slow; the gradient is its own.

    Reference: Buades, Coll & Morel, "A non-local algorithm for image denoising", CVPR 2005; as a defence, Xu, Evans &
    Qi 2018, arXiv:1704.01155, section III-B, whose 11-3-4 these usual settings are.
    """

    def __init__(self, search: int = 11, patch: int = 3, strength: float = 4 / 255):
        super().__init__()
        if search % 2 == 0 or patch % 2 == 0 or min(search, patch) < 1 or not strength > 0:
            raise InputError(
                f"search is {search}, patch {patch} and strength {strength}; give two odd sides, and a strength above 0"
            )
        self.search, self.patch, self.strength = search, patch, strength

    def forward(self, x: Tensor) -> Tensor:
        """The smoothed images."""
        reach, (height, width) = self.search // 2, x.shape[2:]
        wide = F.pad(x, [reach] * 4, mode="reflect")
        total, weights = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        for down in range(self.search):
            for right in range(self.search):
                other = wide[:, :, down : down + height, right : right + width]
                weight = (-self._apart(x, other) / self.strength**2).exp()
                total, weights = total + weight * other, weights + weight
        return total / weights

    def _apart(self, x: Tensor, other: Tensor) -> Tensor:
        """The mean squared difference of the patches about each pixel."""
        square = (x - other).square().mean(1, keepdim=True)
        return F.avg_pool2d(square, self.patch, 1, self.patch // 2, count_include_pad=False)

    @property
    def account(self) -> Account:
        does = f"smooths its inputs (non-local means, {self.search}-{self.patch})"
        return Account(does, "through the means' own slope", WEAK)


class RandomResize(Defence):
    """The images, resized at random to `least` … 1 of a canvas's sides and put at a random place on it, 0 elsewhere.

    The canvas is `canvas` times as high and wide as the images. The paper's, for 299 pixels: least = 299 / 331 and
    canvas = 331 / 299; for a model that takes one size only, canvas = 1. One draw, from torch's default generator,
    serves the whole batch, so that no row depends on its place in it: judge it by its mean (`Averaged`), as
    `filtered` does.

    Reference: Xie, Wang, Zhang, Ren & Yuille, "Mitigating adversarial effects through randomization", ICLR 2018,
    arXiv:1711.01991, section 3.
    """

    def __init__(self, least: float = 0.9, canvas: float = 1.0):
        super().__init__()
        if not (0 < least <= 1 and canvas > 0):
            raise InputError(f"least is {least} and canvas {canvas}; give a share up to 1, and a factor above 0")
        self.least, self.canvas = least, canvas

    def forward(self, x: Tensor) -> Tensor:
        """The canvases."""
        share = self.least + (1 - self.least) * torch.rand(1, device=x.device)
        down, across = (self._placed(size, share, x) for size in x.shape[2:])
        return down @ x @ across.T

    def _placed(self, size: int, share: Tensor, like: Tensor) -> Tensor:
        """The matrix (canvas × size) that resizes a side and puts it somewhere."""
        whole = max(1, round(self.canvas * size))
        to = (share * whole).round().clamp_min(1)
        place = torch.arange(whole, device=like.device) - (torch.rand_like(to) * (whole - to + 1)).floor()
        source = ((place + 0.5) * size / to - 0.5).clamp(0, size - 1)
        inside = (place >= 0) & (place < to)
        weights = tent(source, torch.arange(size, device=like.device, dtype=source.dtype))
        return (weights * inside[:, None]).to(like)

    @property
    def account(self) -> Account:
        does = "resizes its inputs at random and puts them at random places"
        return Account(does, "through the mean over its draws (EOT)", OBFUSCATED)


def filtered(model: nn.Module, *filters: nn.Module, draws: int = 1) -> nn.Module:
    """The model behind filters, as it is to be judged and attacked: by its mean answer over `draws` where above 1.

    Reference for the mean: Athalye, Engstrom, Ilyas & Kwok, "Synthesizing robust adversarial examples", ICML 2018,
    arXiv:1707.07397, section 2.1.
    """
    whole = nn.Sequential(*filters, model)
    whole.training = model.training  # the filters have no mode; a module around a model takes its
    return whole if draws == 1 else Averaged(whole, draws)
