"""Whatever the risk, a training that was killed goes on to the same weights, to the bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from known import inputs, mlp
from sparring import L2, Linf, defend
from sparring.attacks import FGSM, FMN, PGD
from sparring.defend import (
    ADP,
    ALP,
    ARD,
    AWP,
    DVERGE,
    EAT,
    GAL,
    HAT,
    IBP,
    MACER,
    MART,
    MMA,
    MSD,
    NFGSM,
    RSLAD,
    SAM,
    TRS,
    AdaAD,
    AdversarialRisk,
    CrownIBP,
    Distilled,
    EnsembleAdversarial,
    FreeAT,
    Gaussian,
    GradAlign,
    Growing,
    MeanTeacher,
    MultiNorm,
    Risk,
    SmoothAdv,
    Smoothened,
    Standard,
    Step,
    Tempered,
    Trades,
    UniversalAT,
    train,
)
from sparring.models import Ensemble

BALL, WIDE, ATTACK = Linf(0.03), L2(0.1), PGD(2)
PAIRS = ((ATTACK, BALL), (ATTACK, WIDE))
OTHER = mlp(classes=4, seed=3)

RISKS: dict[str, Callable[[], Risk]] = {
    "standard": lambda: Standard(smoothing=0.1),
    "pgd": lambda: AdversarialRisk(ATTACK, BALL),
    "growing trades": lambda: Growing(Trades(ATTACK, BALL)),
    "alp": lambda: ALP(ATTACK, BALL),
    "mart": lambda: MART(ATTACK, BALL),
    "hat": lambda: HAT(ATTACK, BALL, OTHER),
    "mma": lambda: MMA(FMN(3), L2(), furthest=0.5),
    "n-fgsm": lambda: NFGSM(FGSM(), BALL),
    "gradalign": lambda: GradAlign(AdversarialRisk(FGSM(), BALL), BALL),
    "free": lambda: FreeAT(BALL, times=2),
    "growing universal": lambda: Growing(UniversalAT(BALL)),
    "worst norm": lambda: MultiNorm(PAIRS),
    "mean norm": lambda: MultiNorm(PAIRS, "average"),
    "msd": lambda: MSD((BALL, WIDE), steps=2),
    "awp of e-at": lambda: AWP(EAT(PAIRS)),
    "sam of a mean teacher": lambda: SAM(MeanTeacher(ATTACK, BALL)),
    "gaussian": lambda: Gaussian(0.1),
    "smooth adv": lambda: SmoothAdv(ATTACK, WIDE, 0.1),
    "macer": lambda: MACER(0.1, draws=2),
    "ibp": lambda: IBP(BALL),
    "crown-ibp": lambda: CrownIBP(BALL),
    "ensemble adversarial": lambda: EnsembleAdversarial(ATTACK, BALL, (OTHER,)),
    "tempered": lambda: Tempered(5.0),
    "distilled": lambda: Distilled(OTHER),
    "ard": lambda: ARD(ATTACK, BALL, OTHER, share=0.5),
    "rslad": lambda: RSLAD(ATTACK, BALL, OTHER),
    "adaad": lambda: AdaAD(ATTACK, BALL, OTHER, share=0.5),
    "smoothened": lambda: Smoothened(ATTACK, BALL, OTHER, OTHER),
}
OVER_MEMBERS: dict[str, Callable[[], Risk]] = {
    "adp": ADP,
    "gal": GAL,
    "trs": lambda: TRS(ATTACK, BALL),
    "dverge": lambda: DVERGE(ATTACK, BALL, ("1", "3")),
}


class KilledError(Exception):
    pass


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        body = [nn.Flatten(), nn.Linear(24, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)]
        return nn.Sequential(*body).requires_grad_(True)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


QUICK = {"free", "growing universal", "awp of e-at", "sam of a mean teacher", "crown-ibp"}
"""Those with a memory or a schedule; the slow set resumes the others."""
RUNS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in RISKS | OVER_MEMBERS]


def test_every_public_risk_is_among_those_that_are_resumed():
    public = [name for name in defend.__all__ if isinstance(getattr(defend, name), type)]
    risks = {name for name in public if issubclass(getattr(defend, name), Risk)} - {"Risk"}
    made = " ".join(repr(make()) for make in (RISKS | OVER_MEMBERS).values())
    assert {name for name in risks if f"{name}(" not in made} == set()


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_training_goes_on_to_the_same_weights_whatever_the_risk(name, tmp_path: Path):
    x = inputs(40)
    y = (10 * x.flatten(1)[:, :4]).argmax(1)

    def trained(folder: Path | None, until: int = 0) -> Tensor:
        seen = 0

        def watch(now: Step) -> None:
            nonlocal seen
            seen += 1
            if seen == until:
                raise KilledError

        model = Ensemble([network(0), network(1)]) if name in OVER_MEMBERS else network()
        risk = (RISKS | OVER_MEMBERS)[name]()
        train(model, (x, y), risk, epochs=3, batch_size=15, rate=0.02, folder=folder, minutes=0, progress=watch)
        return flat(model)

    whole = trained(None)
    assert not torch.equal(whole, flat(Ensemble([network(0), network(1)]) if name in OVER_MEMBERS else network()))
    with pytest.raises(KilledError):
        trained(tmp_path, until=2 + len(name) % 6)
    assert torch.equal(trained(tmp_path), whole)
