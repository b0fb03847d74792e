"""Rows of the table of attacks: scores."""

from entry import LP, Entry
from sparring import attacks as a
from sparring.spaces import L2, Linf

ROWS: tuple[Entry, ...] = (
    Entry("nes", a.NES(queries=90, draws=8), LP, exact=False, sensitive=True),
    Entry("spsa", a.SPSA(queries=90, draws=8), LP, exact=False, sensitive=True),
    Entry("zo-sign-sgd", a.ZOSignSGD(queries=90, draws=8), LP, exact=False, sensitive=True),
    Entry("simba", a.SimBA(queries=80), LP, exact=False),
    Entry("simba-dct", a.SimBADCT(queries=80, factor=2.0), LP, exact=False),
    Entry("sign-hunter", a.SignHunter(queries=80), (Linf, L2), exact=False),
    Entry("bandits", a.Bandits(queries=90), (Linf, L2), exact=False, sensitive=True),
    Entry("nattack", a.NAttack(queries=90, draws=10), (Linf, L2), exact=False, sensitive=True),
)
