"""Rows of the table of attacks: transfer."""

from entry import LP, Entry
from sparring import attacks as a
from sparring.directions import Blurred, Momentum
from sparring.probes import Variance
from sparring.spaces import L2, Linf
from sparring.transforms import Chain, Resized, Scaled

ROWS: tuple[Entry, ...] = (
    Entry("ni-fgsm", a.NIFGSM(), LP),
    Entry("si-ni-fgsm", a.SINIFGSM(steps=5, copies=2), (Linf, L2)),
    Entry("di-fgsm", a.DIFGSM(), (Linf, L2), exact=False),
    Entry("ti-fgsm", a.TIFGSM(size=3), (Linf, L2), exact=False),
    Entry("vmi-fgsm", a.VMIFGSM(steps=5, samples=2), (Linf, L2)),
    Entry("vni-fgsm", a.VNIFGSM(steps=5, samples=2), (Linf,)),
    Entry("emi-fgsm", a.EMIFGSM(steps=5, samples=3), (Linf, L2)),
    Entry("pre-gradient", a.PreGradientFGSM(), (Linf,)),
    Entry("pi-fgsm", a.PIFGSM(), (Linf,), exact=False),
    Entry("gra", a.GRA(steps=5, samples=2), (Linf,)),
    Entry("pgn", a.PGN(steps=5, samples=2), (Linf, L2)),
    Entry("admix", a.Admix(steps=5, mixes=2, scales=2), (Linf,)),
    Entry("ssa", a.SSA(steps=5, copies=2), (Linf, L2), exact=False),
    Entry("sia", a.SIA(steps=5, copies=2), (Linf,), exact=False),
    Entry("bsr", a.BSR(steps=5, copies=2), (Linf,), exact=False),
    Entry("fia", a.FIA("", steps=5, samples=3), (Linf, L2), exact=False),
    Entry("naa", a.NAA("", steps=5, samples=3), (Linf,), exact=False),
    Entry("cwa", a.CWA(steps=5), (Linf,)),
    Entry(
        "vt-si-ti-di",
        a.PGD(
            5,
            rate=1.0,
            direction=Blurred(Momentum(), 3),
            random_start=False,
            transform=Chain((Scaled(2), Resized())),
            probe=Variance(2),
        ),
        (Linf,),
        exact=False,
    ),
)
