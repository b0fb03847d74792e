"""Rows of the table of attacks: sparse."""

from entry import Entry
from sparring.attacks.brendel_bethge import BrendelBethge
from sparring.attacks.homotopy import Homotopy
from sparring.attacks.jsma import JSMA
from sparring.attacks.lbfgs import LBFGS
from sparring.attacks.newtonfool import NewtonFool
from sparring.attacks.sparsefool import SparseFool
from sparring.attacks.strattack import StrAttack
from sparring.attacks.trust_region import TrustRegion
from sparring.attacks.vfga import FGA, VFGA
from sparring.losses import log_odds
from sparring.spaces import L0, L1, L2, Linf

ROWS: tuple[Entry, ...] = (
    Entry("trust-region", TrustRegion(), (L2, Linf), free=True),
    Entry(
        "brendel-bethge",
        BrendelBethge(steps=25, rate=0.02, periods=8, halvings=6),
        (L2, L0, L1, Linf),
        free=True,
        heavy=True,
        sensitive=True,
    ),
    Entry("newtonfool", NewtonFool(), (L2,), free=True, minimal=False),
    Entry("sparsefool", SparseFool(beyond=1.0), (L0, L1), free=True),
    Entry("vfga", VFGA(steps=20, draws=5), (L0,), free=True),
    Entry("fga", FGA(steps=20, draws=5), (L0,), free=True, minimal=False),
    Entry("l-bfgs", LBFGS(steps=15, searches=8), (L2,), free=True, heavy=True),
    Entry("l-bfgs-log-odds", LBFGS(steps=15, searches=8, loss=log_odds), (L2,), free=True, heavy=True),
    Entry("jsma", JSMA(steps=20, loss=None), (L0,), free=True, minimal=False),
    Entry("jsma-one", JSMA(steps=20, features=1, down=True), (L0,), free=True, minimal=False),
    Entry("jsma-probabilities", JSMA(steps=20), (L0,), free=True, minimal=False),
    Entry("homotopy", Homotopy(steps=40), (L0,), free=True),
    Entry(
        "strattack",
        StrAttack(steps=12, searches=8, refinements=3, tau=0.05),
        (L0, L2),
        free=True,
        minimal=False,
        heavy=True,
    ),
)
