"""A loss that also asks for a smooth perturbation: of a flow field, a curve of colours, or an image."""

from dataclasses import dataclass

from sparring.losses import Loss, Point, margin
from sparring.types import Delta, PerSample


@dataclass(frozen=True)
class Smooth:
    """Another loss plus `weight` times the variation of δ.

    Reference: Xiao et al., "Spatially transformed adversarial examples", ICLR 2018, arXiv:1801.02612, equations (2) to
    (4), with the margin as the first part and τ = 0.05; Laidlaw & Feizi, "Functional adversarial attacks", NeurIPS
    2019, arXiv:1906.00001, for the grid of a recolouring.
    """

    weight: float = 0.05
    loss: Loss = margin

    def __call__(self, at: Point) -> PerSample:
        return self.loss(at) + self.weight * variation(at.delta)


def variation(delta: Delta) -> PerSample:
    """The sum of the lengths of the differences between neighbours; δ is n × places × components.

    There is an axis for every direction in which there are neighbours. Each pair counts once.
    """
    total = delta.new_zeros(len(delta))
    for axis in range(1, delta.ndim - 1):
        square = delta.diff(dim=axis).square().sum(-1).flatten(1)
        total = total + (square + 1e-12).sqrt().sum(1)  # the slope of a root at 0 is infinite
    return total
