"""Attacks that are fitted to a model before they attack: each costs one look of the model afterwards."""

from sparring.attacks.learned.advgan import fit_advgan, fit_advgan_plus
from sparring.attacks.learned.copying import Extracted
from sparring.attacks.learned.extraction import fit_knockoff, fit_substitute
from sparring.attacks.learned.gap import fit_gap, fit_gap_universal
from sparring.attacks.learned.generated import Generated
from sparring.attacks.learned.latent import TREMBA
from sparring.attacks.learned.matched import fit_ltp, fit_ttp
from sparring.attacks.learned.networks import Decoder, Residual
from sparring.attacks.learned.objectives import Clipped, log_cross_entropy
from sparring.attacks.learned.patch import Sticker, fit_patch
from sparring.attacks.learned.recipe import FitRecord
from sparring.attacks.learned.shared import fit_universal
from sparring.attacks.learned.uap import fit_uap
from sparring.attacks.learned.universal import Universal

__all__ = [
    "TREMBA",
    "Clipped",
    "Decoder",
    "Extracted",
    "FitRecord",
    "Generated",
    "Residual",
    "Sticker",
    "Universal",
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
    "log_cross_entropy",
]
