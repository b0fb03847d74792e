"""Models that hold a defence of their own: the question that fits them, and what the report says of how they fell."""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from sparring.evaluation.study import Study
from sparring.evaluation.verdict import Check
from sparring.goals import Untargeted
from sparring.models import Guarded
from sparring.models.defended import accounts
from sparring.outputs import Unrejected
from sparring.problem import Model
from sparring.threat import ThreatModel


def adapted(threat: ThreatModel, model: Model) -> ThreatModel:
    """The same threat; where the model rejects inputs, and any wrong class will do, one that is not rejected."""
    if isinstance(model, Guarded) and isinstance(threat.goal, Untargeted):
        return replace(threat, goal=Unrejected(threat.goal))
    return threat


def attacked_through(study: Study) -> Iterator[Check]:
    """For every defence inside the model: what it does, and that no attack stopped before it."""
    for does, attacked, reference in accounts(study.model):
        yield Check(
            "a defence is attacked adaptively",
            True,
            f"the model {does}; whatever followed its gradients searched {attacked}, as {reference} did, and success "
            f"is that against the whole",
        )
    inside = study.model.modules() if isinstance(study.model, nn.Module) else ()
    if any(isinstance(part, Guarded) for part in inside) and isinstance(study.threat.goal, Untargeted):
        yield Check(
            "a rejected input is no success",
            False,
            "a detector inside the model answers with the class 'rejected', and the goal counts it as a wrong one",
            "put Guarded around the whole model, or ask for the goal Unrejected()",
        )
