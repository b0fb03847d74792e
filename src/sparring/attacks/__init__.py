"""The attacks: one a file, each callable as `attack(model, x, y, threat, seed=0) -> Result`."""

from sparring.attack import AllTargets, Cascade, Transfer, restarts
from sparring.attacks.pgd import BIM, FGSM, MIFGSM, PGD, RFGSM

__all__ = ["BIM", "FGSM", "MIFGSM", "PGD", "RFGSM", "AllTargets", "Cascade", "Transfer", "restarts"]
