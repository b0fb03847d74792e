"""A model that was loaded by name, and what it wants of an image before the image's pixels are its input."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from sparring.errors import InputError
from sparring.models.wrap import Model

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class Resize:
    """Scale an image, then cut out its middle: a matter of the data, for the attacker's pixels are what comes out."""

    size: int | tuple[int, int] | None = None
    """The length that the shorter side gets, or height and width whatever the aspect, or None to leave both."""
    crop: tuple[int, int] | None = None
    """Height and width of the middle that is kept, or None to keep all."""
    interpolation: str = "bilinear"
    grey: bool = False
    """Whether images stay grey where all of them are; published models want three channels."""

    def __post_init__(self) -> None:
        sides = self.size if isinstance(self.size, tuple) else () if self.size is None else (self.size,)
        if min((*sides, *(self.crop or ())), default=1) < 1:
            raise InputError(
                f"an image cannot be resized to size {self.size} and crop {self.crop}; give lengths above 0"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(f"unknown interpolation {self.interpolation!r}; known are {', '.join(INTERPOLATIONS)}")

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The height and width of such an image once it is scaled."""
        if self.size is None:
            return height, width
        if isinstance(self.size, tuple):
            return self.size
        if width <= height:
            return int(self.size * height / width), self.size
        return self.size, int(self.size * width / height)

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """The upper left pixel of what is kept of a scaled image; raises InputError where it is too small."""
        if self.crop is None:
            return 0, 0
        if height < self.crop[0] or width < self.crop[1]:
            raise InputError(f"a {height}×{width} image is smaller than the crop {self.crop[0]}×{self.crop[1]}")
        return round((height - self.crop[0]) / 2), round((width - self.crop[1]) / 2)

    def fits(self, height: int, width: int) -> bool:
        """Whether such an image has the right size already, and is left alone."""
        return (height, width) == (self.crop or self.scaled(height, width))

    def apply(self, x: Tensor) -> Tensor:
        """A batch of float images, n × c × h × w, scaled and cropped; left alone where the size is already right.

        Nearest, bilinear and bicubic are torch's, antialiased; the rest, which torch does not have, are bicubic.
        """
        height, width = x.shape[-2:]
        if self.fits(height, width):
            return x
        scaled = self.scaled(height, width)
        if scaled != (height, width):
            mode = {"nearest": "nearest-exact", "bilinear": "bilinear"}.get(self.interpolation, "bicubic")
            low, high = x.aminmax()  # a cubic curve overshoots
            x = interpolate(x, scaled, mode=mode, antialias=mode != "nearest-exact").clamp(low, high)
        top, left = self.corner(*scaled)
        height, width = self.crop or scaled
        return x[..., top : top + height, left : left + width]


@dataclass(frozen=True)
class LoadedModel:
    """A model found by name."""

    model: Model
    """Takes pixels in [0, 1]; its own normalisation is inside. In evaluation mode."""
    description: str
    """Where it came from, in one line for a report."""
    resize: Resize | None = None
    """What its images go through before they are its input, or None where nothing is known."""
    classes: tuple[str, ...] | None = None
    """The names of its classes, in order, where they are known."""
