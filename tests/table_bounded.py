"""Rows of the table of attacks: bounded."""

from entry import LP, Entry
from sparring.attack import AllTargets, Cascade, Crowd, SmoothBackward
from sparring.attacks.apgd import APGD
from sparring.attacks.composed import ACG, MALT, MIFPE, MM, SLIDE, MultiTargeted, ReACG
from sparring.attacks.frank_wolfe import GAMAFW, FrankWolfe
from sparring.attacks.pgd import PGD
from sparring.attacks.pgd_l0 import PGDL0
from sparring.attacks.staged import GAMA, MD, MDMT, ODI, PMA, Alternating, Annealed, Jitter
from sparring.attacks.targets import Nearest
from sparring.losses import margin, targeted_dlr
from sparring.spaces import L0, L1

ROWS: tuple[Entry, ...] = (
    Entry("annealed", Annealed(12), LP),
    Entry("annealed-warm", Cascade((Annealed(4), Annealed(8, warm_start=True))), LP),
    Entry("md", MD(12), LP),
    Entry("mdmt", MDMT(8, 2), LP),
    Entry("pma", PMA(12), LP),
    Entry("odi", ODI(12), LP),
    Entry("gama-pgd", GAMA(20), LP),
    Entry("gama-fw", GAMAFW(12), LP),
    Entry("jitter", Jitter(12), LP, exact=False),
    Entry("alternating", Alternating(12), LP, targeted=False),
    Entry("nearest", Nearest(PGD(8, loss=targeted_dlr), 3), LP),
    Entry("frank-wolfe", FrankWolfe(20, margin), LP),
    Entry("acg", ACG(12), LP),
    Entry("reacg", ReACG(12), LP),
    Entry("mifpe", MIFPE(12), LP),
    Entry("mm", MM(8, 2), LP),
    Entry("malt", MALT(8, 2, 4), LP),
    Entry("multi-targeted", MultiTargeted(8, 2), LP),
    Entry("slide", SLIDE(20, share=0.05), (L1,)),
    Entry("smooth-pgd", SmoothBackward(PGD(10)), LP),
    Entry("smooth-apgd", SmoothBackward(APGD(12, margin)), LP),
    Entry("crowd", Crowd(PGD(5, loss=margin), 3), LP),
    Entry("crowd-smooth", Crowd(AllTargets(SmoothBackward(Annealed(6)), 2), 2), LP),
    Entry("smooth-crowd-l1", SmoothBackward(Crowd(APGD(20, margin, large_radii=True), 2)), (L1,)),
    Entry("pgd-l0-long", PGDL0(10), (L0,), exact=False),
)
