"""What may be wrong with the evaluation itself."""

from sparring.evaluation.study import Study
from sparring.evaluation.verdict import Check


def examine(study: Study) -> list[Check]:
    """Every check, passed or failed."""
    return []
