"""Hardening: risks to minimise, and the loop that minimises them."""

from sparring.defend.risks import AdversarialRisk, Risk, Standard, Trades
from sparring.defend.train import Epoch, Holdout, TrainingRecord, train
from sparring.progress import Step

__all__ = ["AdversarialRisk", "Epoch", "Holdout", "Risk", "Standard", "Step", "Trades", "TrainingRecord", "train"]
