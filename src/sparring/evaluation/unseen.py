"""Plans for an attacker who sees no gradients: by scores, or by the winner's name alone.

They are sized for whoever pays for queries. Where the question has a limit, that is what each attack may spend.
"""

from sparring.attack import Attack
from sparring.attacks import HopSkipJump, Pointwise, RayS, SignOPT, Square
from sparring.spaces import L1, L2, Linf
from sparring.threat import Access, ThreatModel

QUERIES = {"quick": 200, "standard": 2000, "thorough": 5000}
"""About how many queries an attack of each plan may cost a sample, where the question says nothing."""


def unseen(plan: str, threat: ThreatModel) -> dict[str, Attack]:
    """The attacks of a plan in a ball: Square where there are scores and an eps, then those by decisions.

    By scores, `thorough` alone goes on to decisions, which tell where the scores mislead.
    """
    space, queries = threat.space, threat.queries or QUERIES[plan]
    by_scores = threat.access is Access.SCORES and space.eps is not None and isinstance(space, Linf | L2 | L1)
    if not by_scores:
        return _by_decisions(plan, threat, queries)
    square: dict[str, Attack] = {"square": Square(queries)}
    return square | _by_decisions(plan, threat, queries) if plan == "thorough" else square


def _by_decisions(plan: str, threat: ThreatModel, queries: int) -> dict[str, Attack]:
    """What found most in 2,500 queries (benchmarks/RESULTS.md): RayS in L∞, Sign-OPT in L2, Pointwise elsewhere."""
    further: dict[str, Attack] = {"hopskipjump": HopSkipJump(max(1, round((queries / 67) ** (2 / 3))))}
    further = {} if plan == "quick" else further
    if isinstance(threat.space, Linf):
        return {"rays": RayS(queries), **further}
    if isinstance(threat.space, L2):
        return {"signopt": SignOPT(max(1, queries // 250)), **further}
    return {"pointwise": Pointwise()}
