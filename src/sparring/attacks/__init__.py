"""The attacks: one a file, each callable as `attack(model, x, y, threat, seed=0) -> Result`."""

from sparring.attack import AllTargets, Cascade, Transfer, restarts
from sparring.attacks.apgd import APGD, APGDT
from sparring.attacks.autoattack import autoattack
from sparring.attacks.carlini_wagner import CarliniWagner
from sparring.attacks.deepfool import DeepFool
from sparring.attacks.fab import FAB
from sparring.attacks.fmn import FMN
from sparring.attacks.frank_wolfe import GAMAFW, FrankWolfe
from sparring.attacks.grid import Grid, WorstOf
from sparring.attacks.jsma import JSMA
from sparring.attacks.newtonfool import NewtonFool
from sparring.attacks.perc_al import PerCAL
from sparring.attacks.pgd import BIM, FGSM, MIFGSM, PGD, RFGSM
from sparring.attacks.pgd_l0 import PGDL0
from sparring.attacks.sparsefool import SparseFool
from sparring.attacks.square import Square
from sparring.attacks.staged import GAMA, MD, MDMT, ODI, PMA, Alternating, Annealed, Jitter, Stage, Staged
from sparring.attacks.targets import Nearest
from sparring.attacks.transfer import (
    BSR,
    DIFGSM,
    EMIFGSM,
    GRA,
    NIFGSM,
    PGN,
    PIFGSM,
    SIA,
    SINIFGSM,
    SSA,
    TIFGSM,
    VMIFGSM,
    VNIFGSM,
    Admix,
    PreGradientFGSM,
)
from sparring.attacks.trust_region import TrustRegion
from sparring.attacks.vfga import FGA, VFGA

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "BSR",
    "DIFGSM",
    "EMIFGSM",
    "FAB",
    "FGA",
    "FGSM",
    "FMN",
    "GAMA",
    "GAMAFW",
    "GRA",
    "JSMA",
    "MD",
    "MDMT",
    "MIFGSM",
    "NIFGSM",
    "ODI",
    "PGD",
    "PGDL0",
    "PGN",
    "PIFGSM",
    "PMA",
    "RFGSM",
    "SIA",
    "SINIFGSM",
    "SSA",
    "TIFGSM",
    "VFGA",
    "VMIFGSM",
    "VNIFGSM",
    "Admix",
    "AllTargets",
    "Alternating",
    "Annealed",
    "CarliniWagner",
    "Cascade",
    "DeepFool",
    "FrankWolfe",
    "Grid",
    "Jitter",
    "Nearest",
    "NewtonFool",
    "PerCAL",
    "PreGradientFGSM",
    "SparseFool",
    "Square",
    "Stage",
    "Staged",
    "Transfer",
    "TrustRegion",
    "WorstOf",
    "autoattack",
    "restarts",
]
