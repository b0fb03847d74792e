"""Input transformations: what a transferable gradient is averaged over."""

from sparring.transforms.base import Chain, Map, Transform
from sparring.transforms.blocks import Blocks, Shuffled
from sparring.transforms.mix import Mixed, Scaled
from sparring.transforms.resize import Resized
from sparring.transforms.spectrum import Spectrum

__all__ = ["Blocks", "Chain", "Map", "Mixed", "Resized", "Scaled", "Shuffled", "Spectrum", "Transform"]
