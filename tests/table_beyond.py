"""Rows of the table of attacks: those made for the spaces beyond lp, which must hold their own in lp balls, too."""

from entry import LP, Entry
from sparring.attacks.grid import WorstOf
from sparring.attacks.perc_al import PerCAL
from sparring.spaces import L2

ROWS: tuple[Entry, ...] = (
    Entry("worst-of", WorstOf(40), LP, exact=False),
    Entry("perc-al", PerCAL(steps=150, rate=0.1, back=0.05), (L2,), free=True),
)
