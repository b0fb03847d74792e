"""Attack, measure, harden and certify vision models: verdicts that can be trusted, resumed and shown."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparring import attacks, goals, losses, models, spaces
    from sparring import certify as certify
    from sparring import defend as defend
    from sparring.attack import AllTargets, Attack, Cascade, Transfer, restarts
    from sparring.data import load_data
    from sparring.errors import (
        AccessError,
        InputError,
        MissingExtraError,
        ModelError,
        SparringError,
        SpecError,
        StoreError,
    )
    from sparring.evaluation import Verdict, evaluate
    from sparring.goals import Targeted, Untargeted
    from sparring.ledger import Result
    from sparring.models import Averaged, Ensemble, Normalized
    from sparring.spaces import L0, L1, L2, Linf
    from sparring.threat import Access, ThreatModel

__version__ = "0.1.0"

__all__ = [
    "L0",
    "L1",
    "L2",
    "Access",
    "AccessError",
    "AllTargets",
    "Attack",
    "Averaged",
    "Cascade",
    "Ensemble",
    "InputError",
    "Linf",
    "MissingExtraError",
    "ModelError",
    "Normalized",
    "Result",
    "SparringError",
    "SpecError",
    "StoreError",
    "Targeted",
    "ThreatModel",
    "Transfer",
    "Untargeted",
    "Verdict",
    "attacks",
    "evaluate",
    "goals",
    "load_data",
    "losses",
    "models",
    "restarts",
    "spaces",
]


_HOMES = {
    "attack": ("AllTargets", "Attack", "Cascade", "Transfer", "restarts"),
    "data": ("load_data",),
    "errors": (
        "AccessError",
        "InputError",
        "MissingExtraError",
        "ModelError",
        "SparringError",
        "SpecError",
        "StoreError",
    ),
    "evaluation": ("Verdict", "evaluate"),
    "goals": ("Targeted", "Untargeted"),
    "ledger": ("Result",),
    "models": ("Averaged", "Ensemble", "Normalized"),
    "spaces": ("L0", "L1", "L2", "Linf"),
    "threat": ("Access", "ThreatModel"),
}
"""Which module a name comes from."""


def __getattr__(name: str) -> Any:
    """Everything is imported when first asked for: the command's --help does not wait for torch."""
    if name in ("attacks", "certify", "defend", "goals", "losses", "models", "spaces"):
        return import_module(f"sparring.{name}")
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"sparring.{home}"), name)
            return value
    raise AttributeError(f"module 'sparring' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
