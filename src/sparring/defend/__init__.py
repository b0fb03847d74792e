"""Hardening: risks to minimise, and the loop that minimises them."""

from sparring.defend.alarms import Alarms
from sparring.defend.augment import Augment, Crop, CutMix, Cutout, Flip, Mixup
from sparring.defend.autoencoders import Autoencoder, Divergence, Reconstruction, Reformer, fit_autoencoder, magnet
from sparring.defend.averaging import EMA, SWA
from sparring.defend.carried import FreeAT, UniversalAT
from sparring.defend.certified import IBP, CrownIBP
from sparring.defend.density import KernelDensity, LocalDimension, Mahalanobis
from sparring.defend.detectors import Detector, Squeezing, guarded
from sparring.defend.diffusion import DiffPure, GaussianDenoiser, linear_schedule
from sparring.defend.distillation import ARD, RSLAD, AdaAD, Distilled, MeanTeacher, Smoothened, Tempered
from sparring.defend.diversity import ADP, DVERGE, GAL, TRS
from sparring.defend.fast import NFGSM, GradAlign
from sparring.defend.growing import Growing
from sparring.defend.hardware import Hardware
from sparring.defend.inputs import BitDepth, Compressed, Contrast, Median, NonLocalMeans, RandomResize, filtered
from sparring.defend.multi_norm import EAT, MSD, MultiNorm
from sparring.defend.noise import MACER, Gaussian, SmoothAdv
from sparring.defend.purify import LocalDensity, PixelDefend, PixelDensity, fit_density
from sparring.defend.record import Alarm
from sparring.defend.risk import Risk
from sparring.defend.risks import ALP, HAT, MART, MMA, AdversarialRisk, Standard, Trades
from sparring.defend.schedules import MultiStep, constant, half_cosine, one_cycle
from sparring.defend.train import Epoch, Holdout, TrainingRecord, train
from sparring.defend.transferred import EnsembleAdversarial
from sparring.defend.variation import TotalVariation
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
    "Autoencoder",
    "BitDepth",
    "Compressed",
    "Contrast",
    "Crop",
    "CrownIBP",
    "CutMix",
    "Cutout",
    "Detector",
    "DiffPure",
    "Distilled",
    "Divergence",
    "EnsembleAdversarial",
    "Epoch",
    "Flip",
    "FreeAT",
    "Gaussian",
    "GaussianDenoiser",
    "GradAlign",
    "Growing",
    "Hardware",
    "Holdout",
    "KernelDensity",
    "LocalDensity",
    "LocalDimension",
    "Mahalanobis",
    "MeanTeacher",
    "Median",
    "Mixup",
    "MultiNorm",
    "MultiStep",
    "NonLocalMeans",
    "PixelDefend",
    "PixelDensity",
    "RandomResize",
    "Reconstruction",
    "Reformer",
    "Risk",
    "SmoothAdv",
    "Smoothened",
    "Squeezing",
    "Standard",
    "Step",
    "Tempered",
    "TotalVariation",
    "Trades",
    "TrainingRecord",
    "UniversalAT",
    "constant",
    "filtered",
    "fit_autoencoder",
    "fit_density",
    "guarded",
    "half_cosine",
    "linear_schedule",
    "magnet",
    "one_cycle",
    "train",
]
