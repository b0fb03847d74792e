"""Attack, measure, harden and certify vision models: verdicts that can be trusted, resumed and shown."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sparring import attacks, goals, losses, spaces
from sparring.attack import Attack, Cascade, Transfer, restarts
from sparring.errors import (
    AccessError,
    InputError,
    MissingExtraError,
    ModelError,
    SparringError,
    SpecError,
    StoreError,
)
from sparring.goals import Targeted, Untargeted
from sparring.ledger import Result
from sparring.spaces import L0, L1, L2, Linf
from sparring.threat import Access, ThreatModel

if TYPE_CHECKING:
    from sparring.evaluation import Verdict, evaluate

__version__ = "0.1.0"

__all__ = [
    "L0",
    "L1",
    "L2",
    "Access",
    "AccessError",
    "Attack",
    "Cascade",
    "InputError",
    "Linf",
    "MissingExtraError",
    "ModelError",
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
    "losses",
    "restarts",
    "spaces",
]


def __getattr__(name: str) -> Any:
    """Evaluation brings scipy, pyarrow and jinja2; it is imported when first asked for."""
    if name in ("Verdict", "evaluate"):
        return getattr(import_module("sparring.evaluation"), name)
    raise AttributeError(f"module 'sparring' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
