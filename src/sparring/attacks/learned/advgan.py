"""AdvGAN and AdvGAN++: a generator that deceives a classifier, and a discriminator that keeps it near the data."""

from typing import Unpack

from torch import nn

from sparring.attacks.learned.fitting import fit
from sparring.attacks.learned.generated import Features, Generated, generated
from sparring.attacks.learned.generative import Generative
from sparring.attacks.learned.objectives import Clipped
from sparring.attacks.learned.recipe import How
from sparring.batches import Data
from sparring.losses import Loss, margin
from sparring.problem import Model
from sparring.spaces import Space
from sparring.threat import ThreatModel, as_threat

HINGED = Clipped(margin)
"""The paper's adversarial loss: the margin, until the goal is met."""


def fit_advgan(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    *,
    loss: Loss = HINGED,
    gan: float = 0.1,
    hinge: float = 0.1,
    bound: float = 0.5,
    width: int = 8,
    rate: float = 1e-3,
    surrogate: nn.Module | None = None,
    distil_first: int = 1,
    **how: Unpack[How],
) -> Generated:
    """Fit AdvGAN: the attack that it returns makes each perturbation in one forward of the generator.

    It minimises loss + `gan` · (D(x + G(x)) - 1)² + `hinge` · max(0, ‖G(x)‖₂ - c), where c is `bound` times the longest
    ‖δ‖₂ in the space, and a discriminator D of the same rate learns to tell images from what the generator makes of
    them. The generator is `width` channels wide at full size. Targeted where the threat model is.

    Where the threat model grants less than gradients, give a `surrogate` network: it is trained, in place, on the
    model's answers at the images and at what the generator makes of them, in turn with the generator (dynamic
    distillation), after `distil_first` epochs in which the generator waits.

    Takes `epochs`, `batch_size`, `seed`, `folder` and `progress` as `How` says; the model is left as it was. Raises
    AccessError where the threat model grants too little and there is no surrogate.

    Reference: Xiao, Li, Zhu, He, Liu & Song, "Generating adversarial examples with adversarial networks", IJCAI 2018,
    arXiv:1801.02610, sections 3.2 and 3.3.
    """
    recipe = Generative(
        loss, rate, width, gan=gan, hinge=hinge, bound=bound, surrogate=surrogate, distil_first=distil_first
    )
    return _attack(recipe, model, data, as_threat(threat), how)


def fit_advgan_plus(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    features: Features,
    *,
    loss: Loss = HINGED,
    gan: float = 0.1,
    hinge: float = 0.1,
    bound: float = 0.0,
    noise: int = 16,
    width: int = 16,
    rate: float = 1e-3,
    **how: Unpack[How],
) -> Generated:
    """Fit AdvGAN++: the generator paints the whole image from the model's own `features` of it, and from noise.

    `features` maps images to what an inner layer makes of them (`model[:6]`, for a sequential model). Without a bound
    the hinge is the paper's distance ‖x - x′‖₂. The rest as in `fit_advgan`.

    Reference: Jandial, Mangla, Varshney & Balasubramanian, "AdvGAN++: harnessing latent layers for adversary
    generation", ICCV workshops 2019, arXiv:1908.00706, section 3.
    """
    recipe = Generative(loss, rate, width, gan=gan, hinge=hinge, bound=bound, noise=noise, features=features)
    return _attack(recipe, model, data, as_threat(threat), how)


def _attack(recipe: Generative, model: Model, data: Data, threat: ThreatModel, how: How) -> Generated:
    learner, record = fit(recipe, model, data, threat, **how)
    return generated(learner.network, learner.generator, record, recipe.features)
