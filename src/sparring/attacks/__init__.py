"""The attacks: one a file, each callable as `attack(model, x, y, threat, seed=0) -> Result`."""

from sparring.attack import AllTargets, Cascade, Transfer, restarts
from sparring.attacks.apgd import APGD, APGDT
from sparring.attacks.autoattack import autoattack
from sparring.attacks.carlini_wagner import CarliniWagner
from sparring.attacks.deepfool import DeepFool
from sparring.attacks.fab import FAB
from sparring.attacks.fmn import FMN
from sparring.attacks.pgd import BIM, FGSM, MIFGSM, PGD, RFGSM
from sparring.attacks.square import Square

__all__ = [
    "APGD",
    "APGDT",
    "BIM",
    "FAB",
    "FGSM",
    "FMN",
    "MIFGSM",
    "PGD",
    "RFGSM",
    "AllTargets",
    "CarliniWagner",
    "Cascade",
    "DeepFool",
    "Square",
    "Transfer",
    "autoattack",
    "restarts",
]
