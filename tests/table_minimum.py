"""Rows of the table of attacks: minimum."""

from entry import LP, Entry
from sparring import attacks as a
from sparring.losses import margin
from sparring.spaces import L0, L1, L2, Linf

ROWS: tuple[Entry, ...] = (
    Entry("ddn", a.DDN(steps=100), (L2,), free=True),
    Entry("sigma-zero", a.SigmaZero(steps=30), (L0,), free=True),
    Entry("pruning", a.Pruning(steps=10, start=a.SigmaZero(steps=30)), (L0,), free=True),
    Entry("shrinking-ball", a.ShrinkingBall(steps=80, gamma=0.2), LP, free=True),
    Entry("shrinking-ball-near", a.ShrinkingBall(steps=40, outset=None), LP, free=True, sensitive=True),
    Entry("minimum-norm", a.MinimumNorm(steps=400), (*LP, L0), free=True, sensitive=True, heavy=True),
    Entry("smooth-fmn", a.SmoothBackward(a.FMN(steps=100)), (L2, L1, L0), free=True),
    Entry("crowd-fmn", a.Crowd(a.FMN(steps=100), 2), (L2,), free=True),
    Entry("smooth-fab", a.SmoothBackward(a.FAB(steps=20, classes=4)), (Linf,), free=True),
    Entry("superdeepfool", a.SuperDeepFool(steps=20), (L2,), free=True),
    Entry("pdgd", a.PDGD(steps=150, rate=0.05, ratio=1.0), (L2,), free=True),
    Entry("pdpgd", a.PDPGD(steps=120, rate=0.03, ratio=1.0), LP, free=True, heavy=True),
    Entry("pdpgd-l0", a.PDPGD(steps=150), (L0,), free=True, heavy=True),
    Entry("ead", a.EAD(steps=50, searches=9, first_weight=0.1), (L1,), free=True, heavy=True),
    Entry("alma", a.ALMA(steps=120, rate=0.004), (L2,), free=True, heavy=True),
    Entry(
        "cw-linf",
        a.CarliniWagnerLinf(steps=20, searches=30, rate=2e-3, first_weight=10.0),
        (Linf,),
        free=True,
        heavy=True,
    ),
    Entry("cw-l0", a.CarliniWagnerL0(steps=30, searches=15), (L0,), free=True, heavy=True),
    Entry("bisection-pgd", a.Bisection(a.PGD(steps=10, loss=margin), 9), (*LP, L0), free=True),
    Entry("bisection-square", a.Bisection(a.Square(queries=30), 6), (Linf,), free=True, minimal=False),
)
