"""Plans for an attacker who sees no gradients: by scores, or by the winner's name alone.

They are sized for whoever pays for queries. Where the question has a limit, that is what each attack may spend.
"""

from sparring.attack import Attack
from sparring.attacks import HopSkipJump, Pointwise, RayS, SignOPT, SparseRS, Square
from sparring.spaces import L0, L2, Linf
from sparring.threat import Access, ThreatModel

QUERIES = {"quick": 200, "standard": 2000, "thorough": 5000}
"""About how many queries an attack of each plan may cost a sample, where the question says nothing."""


def unseen(plan: str, threat: ThreatModel) -> dict[str, Attack]:
    """The attacks of a plan in a ball: where there are scores and an eps, squares, or in L0 pixels; then by decisions.

    By scores, `thorough` alone goes on to decisions, which tell where the scores mislead.
    """
    queries = threat.queries or QUERIES[plan]
    if threat.access < Access.SCORES or threat.space.eps is None:
        return _by_decisions(plan, threat, queries)
    sparse = isinstance(threat.space, L0)
    search: dict[str, Attack] = {"sparse-rs": SparseRS(queries)} if sparse else {"square": Square(queries)}
    return search | _by_decisions(plan, threat, queries) if plan == "thorough" else search


def _by_decisions(plan: str, threat: ThreatModel, queries: int) -> dict[str, Attack]:
    """What found most in 2,500 queries (benchmarks/RESULTS.md): RayS in L∞, Sign-OPT in L2, Pointwise elsewhere."""
    further: dict[str, Attack] = {"hopskipjump": HopSkipJump(max(1, round((queries / 67) ** (2 / 3))))}
    further = {} if plan == "quick" else further
    if isinstance(threat.space, Linf):
        return {"rays": RayS(queries), **further}
    if isinstance(threat.space, L2):
        return {"signopt": SignOPT(max(1, queries // 250)), **further}
    return {"pointwise": Pointwise()}
