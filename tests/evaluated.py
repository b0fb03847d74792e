"""A small evaluation that many tests look at from all sides."""

from known import inputs, mlp
from sparring import attacks
from sparring.evaluation.rows import KINDS

PLAN = {"pgd": attacks.PGD(5), "square": attacks.Square(20)}
SAME = [name for name in KINDS if name != "seconds"]
"""The columns that two runs of the same thing agree on."""


def toy(n=24, wrong=5, classes=5):
    """A small network, inputs all over the box, and labels of which every fifth is wrong."""
    model, x = mlp(classes=classes), inputs(n, spread=1.0)
    y = model(x).argmax(1)
    y[::wrong] = (y[::wrong] + 1) % classes
    return model, x, y
