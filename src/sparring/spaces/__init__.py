"""Where the attacker may move."""

from sparring.spaces.balls import L0, L1, L2, Ball, Linf, ball
from sparring.spaces.base import Space
from sparring.spaces.colour import Hue, Recolour
from sparring.spaces.elastic_net import ElasticNet
from sparring.spaces.flow import Elastic, Flow
from sparring.spaces.motions import Rotation
from sparring.spaces.patches import Frame, Patch
from sparring.spaces.perceptual import SSIM, Activations, ColourDifference, Perceptual
from sparring.spaces.shadow import Shadow
from sparring.spaces.wasserstein import Wasserstein

__all__ = [
    "L0",
    "L1",
    "L2",
    "SSIM",
    "Activations",
    "Ball",
    "ColourDifference",
    "Elastic",
    "ElasticNet",
    "Flow",
    "Frame",
    "Hue",
    "Linf",
    "Patch",
    "Perceptual",
    "Recolour",
    "Rotation",
    "Shadow",
    "Space",
    "Wasserstein",
    "ball",
]
