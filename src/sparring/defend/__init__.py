"""Hardening: risks to minimise, and the loop that minimises them."""

from sparring.defend.alarms import Alarms
from sparring.defend.augment import Augment, Crop, CutMix, Cutout, Flip, Mixup
from sparring.defend.averaging import EMA, SWA
from sparring.defend.carried import FreeAT, UniversalAT
from sparring.defend.certified import IBP
from sparring.defend.distillation import ARD, RSLAD, AdaAD, Distilled, MeanTeacher, Smoothened, Tempered
from sparring.defend.diversity import ADP, DVERGE, GAL, TRS
from sparring.defend.fast import NFGSM, GradAlign
from sparring.defend.growing import Growing
from sparring.defend.hardware import Hardware
from sparring.defend.multi_norm import EAT, MSD, MultiNorm
from sparring.defend.noise import MACER, Gaussian, SmoothAdv
from sparring.defend.record import Alarm
from sparring.defend.risk import Risk
from sparring.defend.risks import ALP, HAT, MART, MMA, AdversarialRisk, Standard, Trades
from sparring.defend.schedules import MultiStep, constant, half_cosine, one_cycle
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
    "EMA",
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
    "SWA",
    "TRS",
    "AdaAD",
    "AdversarialRisk",
    "Alarm",
    "Alarms",
    "Augment",
    "Crop",
    "CutMix",
    "Cutout",
    "Distilled",
    "EnsembleAdversarial",
    "Epoch",
    "Flip",
    "FreeAT",
    "Gaussian",
    "GradAlign",
    "Growing",
    "Hardware",
    "Holdout",
    "MeanTeacher",
    "Mixup",
    "MultiNorm",
    "MultiStep",
    "Risk",
    "SmoothAdv",
    "Smoothened",
    "Standard",
    "Step",
    "Tempered",
    "Trades",
    "TrainingRecord",
    "UniversalAT",
    "constant",
    "half_cosine",
    "one_cycle",
    "train",
]
