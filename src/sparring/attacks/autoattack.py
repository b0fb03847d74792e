"""AutoAttack: the published standard suite, member by member."""

from sparring.attack import AllTargets, Attack, restarts
from sparring.attacks.apgd import APGD, APGDT
from sparring.attacks.fab import FAB
from sparring.attacks.square import Square
from sparring.errors import AccessError, InputError
from sparring.spaces import L1, L2, Linf, Space
from sparring.threat import ThreatModel, as_threat


def autoattack(threat: ThreatModel | Space | str) -> dict[str, Attack]:
    """The members of the standard version by name, in the order in which they run.

    Each is meant for the samples that those before it left. A threat model that grants scores alone leaves Square.
    There are never more targets than wrong classes. Raises InputError where the space is not an L∞, L2 or L1 ball of a
    given eps, and AccessError where the threat model grants decisions alone.

    Reference: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020, arXiv:2003.01690, section 6. In L1: Croce & Hein, "Mind the box: l1-APGD for sparse
    adversarial attacks on image classifiers", ICML 2021, arXiv:2103.01208, section 5.
    """
    question = as_threat(threat)
    space = question.space
    if not isinstance(space, Linf | L2 | L1):
        raise InputError(f"AutoAttack is defined in Linf, L2 and L1, not in {type(space).__name__}; use another plan")
    if space.eps is None:
        raise InputError(
            f"AutoAttack needs an eps, and {type(space).__name__} leaves it free; give one, as in 'l2:0.5'"
        )
    sparse = isinstance(space, L1)
    members: dict[str, Attack] = {
        "apgd-ce": restarts(APGD(large_radii=True), 5) if sparse else APGD(),
        "apgd-t": APGDT(classes=5, large_radii=True) if sparse else APGDT(classes=9),
        "fab-t": AllTargets(FAB(final=0), 9),  # the published code leaves out the paper's final search
        "square": Square(queries=5000),
    }
    granted = {name: attack for name, attack in members.items() if attack.access <= question.access}
    if not granted:
        raise AccessError("no member of AutoAttack makes do with decisions; allow access to scores at least")
    return granted
