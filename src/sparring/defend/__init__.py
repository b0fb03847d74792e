"""Hardening: risks to minimise, and the loop that minimises them."""

from sparring.defend.carried import FreeAT, UniversalAT
from sparring.defend.certified import IBP
from sparring.defend.distillation import ARD, RSLAD, AdaAD, Distilled, MeanTeacher, Smoothened, Tempered
from sparring.defend.diversity import ADP, DVERGE, GAL, TRS
from sparring.defend.fast import NFGSM, GradAlign
from sparring.defend.growing import Growing
from sparring.defend.multi_norm import EAT, MSD, MultiNorm
from sparring.defend.noise import MACER, Gaussian, SmoothAdv
from sparring.defend.risk import Risk
from sparring.defend.risks import ALP, HAT, MART, MMA, AdversarialRisk, Standard, Trades
from sparring.defend.train import Epoch, Holdout, TrainingRecord, train
from sparring.defend.transferred import EnsembleAdversarial
from sparring.defend.weights import AWP, SAM
from sparring.progress import Step

__all__ = [
    "ADP",
    "ALP",
    "ARD",
    "AWP",
    "DVERGE",
    "EAT",
    "GAL",
    "HAT",
    "IBP",
    "MACER",
    "MART",
    "MMA",
    "MSD",
    "NFGSM",
    "RSLAD",
    "SAM",
    "TRS",
    "AdaAD",
    "AdversarialRisk",
    "Distilled",
    "EnsembleAdversarial",
    "Epoch",
    "FreeAT",
    "Gaussian",
    "GradAlign",
    "Growing",
    "Holdout",
    "MeanTeacher",
    "MultiNorm",
    "Risk",
    "SmoothAdv",
    "Smoothened",
    "Standard",
    "Step",
    "Tempered",
    "Trades",
    "TrainingRecord",
    "UniversalAT",
    "train",
]
