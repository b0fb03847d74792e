"""The attacks: one a file, each callable as `attack(model, x, y, threat, seed=0) -> Result`."""

from sparring.attack import AllTargets, Cascade, Crowd, Near, SmoothBackward, Transfer, restarts
from sparring.attacks.alma import ALMA
from sparring.attacks.apgd import APGD, APGDT
from sparring.attacks.autoattack import autoattack
from sparring.attacks.bandits import Bandits
from sparring.attacks.bisection import Bisection
from sparring.attacks.boundary import BoundaryAttack
from sparring.attacks.brendel_bethge import BrendelBethge
from sparring.attacks.carlini_wagner import CarliniWagner, CarliniWagnerLinf
from sparring.attacks.carlini_wagner_l0 import CarliniWagnerL0
from sparring.attacks.composed import ACG, MALT, MIFPE, MM, SLIDE, MultiTargeted, ReACG
from sparring.attacks.conjugate import Conjugate
from sparring.attacks.cwa import CWA
from sparring.attacks.ddn import DDN
from sparring.attacks.deepfool import DeepFool
from sparring.attacks.ead import EAD
from sparring.attacks.estimated import NES, SPSA, Estimated, Signs, ZOSignSGD
from sparring.attacks.evolutionary import EvolutionaryAttack
from sparring.attacks.fab import FAB
from sparring.attacks.feature_match import FeatureMatch
from sparring.attacks.fmn import FMN
from sparring.attacks.frank_wolfe import GAMAFW, FrankWolfe
from sparring.attacks.genetic import GenAttack, OnePixel
from sparring.attacks.geoda import GeoDA
from sparring.attacks.grid import Grid, WorstOf
from sparring.attacks.homotopy import Homotopy
from sparring.attacks.hopskipjump import QEBA, HopSkipJump, TangentAttack
from sparring.attacks.jsma import JSMA
from sparring.attacks.lbfgs import LBFGS
from sparring.attacks.learned import (
    TREMBA,
    Extracted,
    Generated,
    Sticker,
    Universal,
    fit_advgan,
    fit_advgan_plus,
    fit_gap,
    fit_gap_universal,
    fit_knockoff,
    fit_ltp,
    fit_patch,
    fit_substitute,
    fit_ttp,
    fit_uap,
    fit_universal,
)
from sparring.attacks.minimum_norm import MinimumNorm
from sparring.attacks.nattack import NAttack
from sparring.attacks.newtonfool import NewtonFool
from sparring.attacks.opt import OPT, SignOPT
from sparring.attacks.parsimonious import Parsimonious
from sparring.attacks.patch_search import PatchSearch
from sparring.attacks.pdgd import PDGD, PDPGD
from sparring.attacks.perc_al import PerCAL
from sparring.attacks.pgd import BIM, FGSM, MIFGSM, PGD, RFGSM
from sparring.attacks.pgd_l0 import PGDL0
from sparring.attacks.pointwise import Pointwise
from sparring.attacks.prior import PRGF
from sparring.attacks.pruning import Pruning
from sparring.attacks.rays import RayS
from sparring.attacks.shrinking import ShrinkingBall
from sparring.attacks.sigma_zero import SigmaZero
from sparring.attacks.signflip import SignFlip
from sparring.attacks.signhunter import SignHunter
from sparring.attacks.simba import SimBA, SimBADCT
from sparring.attacks.sparse_rs import SparseRS
from sparring.attacks.sparsefool import SparseFool
from sparring.attacks.square import Square
from sparring.attacks.staged import GAMA, MD, MDMT, ODI, PMA, Alternating, Annealed, Jitter, Stage, Staged
from sparring.attacks.starts import BlendedNoise, FromBest, FromData, SaltAndPepper, UniformNoise
from sparring.attacks.strattack import StrAttack
from sparring.attacks.subspaces import Coarse, Full, LowFrequency
from sparring.attacks.superdeepfool import SuperDeepFool
from sparring.attacks.surfree import SurFree
from sparring.attacks.targets import Nearest
from sparring.attacks.transfer import (
    EMIFGSM,
    FIA,
    GRA,
    NAA,
    NIFGSM,
    PGN,
    PIFGSM,
    SINIFGSM,
    VMIFGSM,
    VNIFGSM,
    PreGradientFGSM,
)
from sparring.attacks.transformed import BSR, DIFGSM, SIA, SSA, TIFGSM, Admix
from sparring.attacks.triangle import TriangleAttack
from sparring.attacks.trust_region import TrustRegion
from sparring.attacks.vfga import FGA, VFGA
from sparring.attacks.zoo import ZOO

__all__ = [
    "ACG",
    "ALMA",
    "APGD",
    "APGDT",
    "BIM",
    "BSR",
    "CWA",
    "DDN",
    "DIFGSM",
    "EAD",
    "EMIFGSM",
    "FAB",
    "FGA",
    "FGSM",
    "FIA",
    "FMN",
    "GAMA",
    "GAMAFW",
    "GRA",
    "JSMA",
    "LBFGS",
    "MALT",
    "MD",
    "MDMT",
    "MIFGSM",
    "MIFPE",
    "MM",
    "NAA",
    "NES",
    "NIFGSM",
    "ODI",
    "OPT",
    "PDGD",
    "PDPGD",
    "PGD",
    "PGDL0",
    "PGN",
    "PIFGSM",
    "PMA",
    "PRGF",
    "QEBA",
    "RFGSM",
    "SIA",
    "SINIFGSM",
    "SLIDE",
    "SPSA",
    "SSA",
    "TIFGSM",
    "TREMBA",
    "VFGA",
    "VMIFGSM",
    "VNIFGSM",
    "ZOO",
    "Admix",
    "AllTargets",
    "Alternating",
    "Annealed",
    "Bandits",
    "Bisection",
    "BlendedNoise",
    "BoundaryAttack",
    "BrendelBethge",
    "CarliniWagner",
    "CarliniWagnerL0",
    "CarliniWagnerLinf",
    "Cascade",
    "Coarse",
    "Conjugate",
    "Crowd",
    "DeepFool",
    "Estimated",
    "EvolutionaryAttack",
    "Extracted",
    "FeatureMatch",
    "FrankWolfe",
    "FromBest",
    "FromData",
    "Full",
    "GenAttack",
    "Generated",
    "GeoDA",
    "Grid",
    "Homotopy",
    "HopSkipJump",
    "Jitter",
    "LowFrequency",
    "MinimumNorm",
    "MultiTargeted",
    "NAttack",
    "Near",
    "Nearest",
    "NewtonFool",
    "OnePixel",
    "Parsimonious",
    "PatchSearch",
    "PerCAL",
    "Pointwise",
    "PreGradientFGSM",
    "Pruning",
    "RayS",
    "ReACG",
    "SaltAndPepper",
    "ShrinkingBall",
    "SigmaZero",
    "SignFlip",
    "SignHunter",
    "SignOPT",
    "Signs",
    "SimBA",
    "SimBADCT",
    "SmoothBackward",
    "SparseFool",
    "SparseRS",
    "Square",
    "Stage",
    "Staged",
    "Sticker",
    "StrAttack",
    "SuperDeepFool",
    "SurFree",
    "TangentAttack",
    "Transfer",
    "TriangleAttack",
    "TrustRegion",
    "UniformNoise",
    "Universal",
    "WorstOf",
    "ZOSignSGD",
    "autoattack",
    "fit_advgan",
    "fit_advgan_plus",
    "fit_gap",
    "fit_gap_universal",
    "fit_knockoff",
    "fit_ltp",
    "fit_patch",
    "fit_substitute",
    "fit_ttp",
    "fit_uap",
    "fit_universal",
    "restarts",
]
