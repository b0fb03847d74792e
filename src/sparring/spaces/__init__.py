"""Where the attacker may move."""

from sparring.spaces.balls import L0, L1, L2, Ball, Linf, ball
from sparring.spaces.base import Space

__all__ = ["L0", "L1", "L2", "Ball", "Linf", "Space", "ball"]
