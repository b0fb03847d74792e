"""From a model and data to a verdict: plan, rows, store, metrics, checks and report."""

from sparring.evaluation.run import evaluate
from sparring.evaluation.verdict import Check, Verdict

__all__ = ["Check", "Verdict", "evaluate"]
