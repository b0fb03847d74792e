"""The plans for goals that name no class, such as being wrong and not rejected: searches of the goal's own margin."""

from sparring.attack import Attack, restarts
from sparring.attacks import APGD, FMN, PGD, PatchSearch, Square
from sparring.errors import InputError
from sparring.goals import Targeted, Untargeted
from sparring.losses import cross_entropy, margin
from sparring.outputs import Blind, Unrejected
from sparring.spaces import L1, L2, Ball, Linf, Patch
from sparring.threat import ThreatModel


def names_a_class(threat: ThreatModel) -> bool:
    """Whether the attacks of the usual plans, which aim at classes, know what to do."""
    return isinstance(threat.goal, Untargeted | Targeted)


def by_margin(name: str, threat: ThreatModel) -> dict[str, Attack]:
    """The plan of this name for such a goal; raises InputError for `autoattack`, whose attacks aim at classes."""
    space = threat.space
    if name == "autoattack":
        raise InputError(f"the plan 'autoattack' aims at classes, and {threat.goal} names none; use 'standard'")
    if space.eps is None:
        return {"fmn": FMN(50 if name == "quick" else 200)} if isinstance(space, Ball) else {}
    if isinstance(space, Patch):
        return patched(threat)
    if name == "quick":
        return {"margin": PGD(20, loss=margin)}
    times = 4 if name == "thorough" else 1
    found: dict[str, Attack] = {"margin": PGD(60, loss=margin, random_start=False)}
    if isinstance(space, Linf | L2 | L1):
        found["search"] = restarts(APGD(60, margin), times)
    if isinstance(threat.goal, Unrejected):
        found |= {"blind": PGD(40, loss=Blind(cross_entropy)), "blind-margin": PGD(40, loss=Blind(margin))}
    found["restarts"] = restarts(PGD(100, loss=margin), times)
    return found | ({"square": Square(1000 * times)} if isinstance(space, Linf | L2 | L1) else {})


def patched(threat: ThreatModel) -> dict[str, Attack]:
    """For a patch: a search by scores finds its place and its colours far better than gradients do; both are tried.

    Of 30 carried digits a patch of 6 × 6 breaks 26 by 1,000 scores, 25 by 240 gradients from 8 starts, and 9 by one.
    """
    return {
        "search": PatchSearch(300),
        "gradients": restarts(PGD(40, loss=margin), 4),
        "search-long": PatchSearch(2000),
    }
