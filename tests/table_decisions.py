"""Rows of the table of attacks: decisions. How near they come is tested in test_decisions.py, at a higher price."""

from functools import partial

from entry import Entry
from sparring import attacks as a
from sparring.spaces import L0, L1, L2, Linf

FEW = a.UniformNoise(tries=8)
row = partial(Entry, free=True, minimal=False, sensitive=True)

ROWS: tuple[Entry, ...] = (
    row("hopskipjump", a.HopSkipJump(steps=2, draws=20, start=FEW), (L2, Linf)),
    row("qeba", a.QEBA(steps=1, draws=20, subspace=a.Coarse(2), start=FEW), (L2,)),
    row("tangent", a.TangentAttack(steps=2, draws=20, start=FEW), (L2,)),
    row("boundary", a.BoundaryAttack(steps=50, start=FEW), (L2,)),
    row("geoda", a.GeoDA(queries=50, rounds=2, start=FEW), (L2, Linf, L1)),
    row("sign-opt", a.SignOPT(steps=2, draws=15, trials=3, start=FEW), (L2, Linf)),
    row("opt", a.OPT(steps=1, draws=3, trials=3, start=FEW), (L2,)),
    row("rays", a.RayS(steps=40), (Linf,)),
    row("surfree", a.SurFree(steps=8, memory=3, start=FEW), (L2,)),
    row("triangle", a.TriangleAttack(steps=30, start=FEW), (L2,)),
    row("sign-flip", a.SignFlip(steps=40, start=FEW), (Linf,)),
    row("evolutionary", a.EvolutionaryAttack(steps=60, share=0.3, start=a.BlendedNoise(tries=20)), (L2,)),
    Entry("pointwise-l0", a.Pointwise(start=a.SaltAndPepper(tries=12)), (L0,), free=True, sensitive=True),
    row("pointwise", a.Pointwise(halvings=3, passes=1, start=a.SaltAndPepper(tries=12)), (L2, L1, Linf)),
)
