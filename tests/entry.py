"""What the table of attacks is made of."""

from dataclasses import dataclass

from sparring.attack import Attack
from sparring.spaces import L1, L2, Ball, Linf

LP = (Linf, L2, L1)


@dataclass(frozen=True)
class Entry:
    """An attack, and what may be asked of it."""

    name: str
    attack: Attack
    norms: tuple[type[Ball], ...]
    free: bool = False
    """Whether it minimises the distance; otherwise it needs an eps."""
    exact: bool = True
    """Whether it must succeed just beyond the true distance of a two-class affine model."""
    targeted: bool = True
    minimal: bool = True
    """Whether a free one claims to come near the smallest distance; otherwise it need only succeed, on every sample."""
    shape: tuple[int, ...] | None = None
    """The one shape of inputs that it was fitted to; None where it takes any."""
    sensitive: bool = False
    """Whether one answer that rounding turns around changes all that follows; layouts are compared in float64 then."""
    written: bool = True
    """Whether its settings can be written as JSON; not where they hold a model."""
    heavy: bool = False
    """Whether its laws take so long that all of them belong to the slow set."""

    def __str__(self) -> str:
        return self.name
