"""Every attack, with settings small enough for tests; one row buys all the laws of test_laws.py."""

import table_beyond
import table_bounded
import table_decisions
import table_learned
import table_minimum
import table_scores
import table_sparse
import table_transfer
from entry import LP, Entry
from sparring import attacks as a
from sparring.directions import Sparse
from sparring.losses import dlr, margin, scaled_cross_entropy, targeted_dlr
from sparring.spaces import L0, L1, L2, Linf

SPINE = (
    Entry("fgsm", a.FGSM(), LP),
    Entry("r-fgsm", a.RFGSM(), (Linf,), exact=False),
    Entry("bim", a.BIM(), LP),
    Entry("mi-fgsm", a.MIFGSM(), LP),
    Entry("pgd", a.PGD(steps=10), LP),
    Entry("pgd-l0", a.PGD(steps=10), (L0,), exact=False),
    Entry("pgd-sparse", a.PGD(steps=20, direction=Sparse(0.05)), (L1,)),
    Entry("pgd-margin", a.PGD(steps=10, loss=margin), LP),
    Entry("pgd-scaled", a.PGD(steps=10, loss=scaled_cross_entropy), LP),
    Entry("restarts", a.restarts(a.PGD(steps=5), 2), LP),
    Entry("cascade", a.Cascade((a.FGSM(), a.PGD(steps=5, loss=dlr))), LP),
    Entry("apgd-ce", a.APGD(steps=12), LP),
    Entry("apgd-dlr", a.APGD(steps=12, loss=dlr), LP, targeted=False),
    Entry("apgd-t", a.APGDT(steps=8, classes=3), LP),
    Entry("apgd-large", a.APGD(steps=30, large_radii=True), (L1,)),
    Entry("square", a.Square(queries=200), LP, exact=False),
    Entry("square-beside", a.Square(queries=200, rescale=True, beside=4, hope=0.01), LP, exact=False),
    Entry("fab", a.FAB(steps=20, classes=4), LP, free=True),
    Entry("fab-t", a.AllTargets(a.FAB(steps=20), 3), LP, free=True),
    Entry("fmn", a.FMN(steps=100), (Linf, L2, L1, L0), free=True),
    Entry("deepfool", a.DeepFool(), (L2, Linf), free=True),
    Entry("carlini-wagner", a.CarliniWagner(steps=60, searches=5, rate=0.01, first_weight=0.1), (L2,), free=True),
    Entry(
        "near",
        a.Cascade(
            (
                a.FGSM(),
                a.Near(a.AllTargets(a.PGD(steps=3, loss=margin), 2), 0.3),
                a.Near(a.Square(queries=80, rescale=True, warm=True, beside=2), 0.6),
                a.PGD(steps=5, loss=margin),
            )
        ),
        LP,
        exact=False,
    ),
    Entry("all-targets", a.AllTargets(a.PGD(steps=5, loss=targeted_dlr), 3), LP),
)

TABLE = (
    SPINE
    + table_transfer.ROWS
    + table_bounded.ROWS
    + table_beyond.ROWS
    + table_minimum.ROWS
    + table_sparse.ROWS
    + table_learned.ROWS
    + table_scores.ROWS
    + table_decisions.ROWS
)
