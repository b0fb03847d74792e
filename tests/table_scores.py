"""Rows of the table of attacks: scores."""

import torch

from entry import LP, Entry
from sparring import attacks as a
from sparring.spaces import L0, L2, Linf
from table_learned import SHAPE, drawn


def surrogate(x: torch.Tensor) -> torch.Tensor:
    """A thousand scores that know nothing of any victim: such a prior must not spoil the search."""
    features = x[0].numel()
    weight = torch.arange(1000 * features, device=x.device).reshape(features, 1000).cos()
    return x.flatten(1) @ weight.to(x.dtype)


ROWS: tuple[Entry, ...] = (
    Entry("nes", a.NES(queries=90, draws=8), LP, exact=False, sensitive=True),
    Entry("spsa", a.SPSA(queries=90, draws=8), LP, exact=False, sensitive=True),
    Entry("zo-sign-sgd", a.ZOSignSGD(queries=90, draws=8), LP, exact=False, sensitive=True),
    Entry("simba", a.SimBA(queries=80), LP, exact=False),
    Entry("simba-dct", a.SimBADCT(queries=80, factor=2.0), LP, exact=False),
    Entry("sign-hunter", a.SignHunter(queries=80), (Linf, L2), exact=False),
    Entry("bandits", a.Bandits(queries=90), (Linf, L2), exact=False, sensitive=True),
    Entry("nattack", a.NAttack(queries=90, draws=10), (Linf, L2), exact=False, sensitive=True),
    Entry("parsimonious", a.Parsimonious(queries=90, together=6), (Linf,), exact=False),
    Entry("sparse-rs", a.SparseRS(queries=60), (L0,), exact=False),
    Entry("gen-attack", a.GenAttack(queries=90, population=4), (Linf, L2), exact=False, sensitive=True),
    Entry("one-pixel", a.OnePixel(queries=90, population=10), (L0,), exact=False, sensitive=True),
    Entry(
        "zoo",
        a.ZOO(40, 6, 2, rate=0.02, first_weight=10.0),
        (L2,),
        free=True,
        minimal=False,
        sensitive=True,
        heavy=True,
    ),
    Entry("tremba", a.TREMBA(drawn(), queries=90, draws=6), LP, exact=False, shape=SHAPE, sensitive=True),
    Entry("p-rgf", a.PRGF(surrogate, queries=90, draws=8, norms=3), LP, exact=False, sensitive=True, written=False),
    Entry(
        "p-rgf-d",
        a.PRGF(surrogate, queries=90, draws=8, norms=3, subspace=a.Coarse(2, 2)),
        LP,
        exact=False,
        sensitive=True,
        written=False,
    ),
)
