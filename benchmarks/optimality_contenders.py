"""Who competes in `optimality.py`, each with 1,000 forwards and 1,000 backwards a sample as AttackBench sets them."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparring import attacks as a
from sparring.attack import Attack
from sparring.losses import dlr
from sparring.spaces import L0, L1, L2, Ball, Linf
from sparring.threat import ThreatModel

Run = Callable[[nn.Module, Tensor, Tensor], Tensor]


def contenders(p: float) -> dict[str, Run]:
    """Name and search; ours first."""
    best = {"MinimumNorm": a.MinimumNorm(), "MinimumNorm(500)": a.MinimumNorm(500)}
    return {f"sparring {name}": ours(attack, p) for name, attack in (best | OURS[p]).items()} | peers(p) | arts(p)


OURS: dict[float, dict[str, Attack]] = {
    0.0: {
        "SigmaZero": a.SigmaZero(steps=1000),
        "VFGA": a.VFGA(steps=100, draws=10),
        "AllTargets(SigmaZero)": a.AllTargets(a.SigmaZero(steps=110), 9),
        "AllTargets(FMN), 3": a.AllTargets(a.FMN(steps=330), 3),
        "PDPGD": a.PDPGD(steps=990),
    },
    1.0: {
        "AllTargets(FMN)": a.AllTargets(a.FMN(steps=110), 9),
        "AllTargets(FMN), 3": a.AllTargets(a.FMN(steps=330), 3),
        "ALMA": a.ALMA(steps=990, first=0.5),
        "PDPGD": a.PDPGD(steps=990),
        "ShrinkingBall": a.ShrinkingBall(steps=990),
    },
    2.0: {
        "AllTargets(FMN)": a.AllTargets(a.FMN(steps=110), 9),
        "AllTargets(FMN), 3": a.AllTargets(a.FMN(steps=330), 3),
        "ALMA": a.ALMA(steps=990, first=0.1),
        "DDN": a.DDN(steps=1000),
        "PDGD": a.PDGD(steps=990),
        "PDPGD": a.PDPGD(steps=990),
        "Bisection(APGDT)": a.Bisection(a.APGDT(steps=11, classes=9), 10),
        "ShrinkingBall": a.ShrinkingBall(steps=990),
    },
    math.inf: {
        "AllTargets(FMN)": a.AllTargets(a.FMN(steps=110), 9),
        "AllTargets(FMN), 3": a.AllTargets(a.FMN(steps=330), 3),
        "Bisection(APGDT)": a.Bisection(a.APGDT(steps=11, classes=9), 10),
        "Bisection(APGD)": a.Bisection(a.APGD(steps=98, loss=dlr), 10),
        "ShrinkingBall": a.ShrinkingBall(steps=990),
        "PDPGD": a.PDPGD(steps=990),
    },
}


def ours(attack: Attack, p: float) -> Run:
    spaces: dict[float, Ball] = {0.0: L0(pixels=False), 1.0: L1(), 2.0: L2(), math.inf: Linf()}
    return lambda m, x, y: attack(m, x, y, ThreatModel(spaces[p], queries=1000)).x


def peers(p: float) -> dict[str, Run]:
    """The published attacks for this norm, with the settings of AttackBench's own configuration, 1,000 steps in all."""
    import foolbox as fb
    import torchattacks as ta
    from adv_lib import attacks as al
    from adv_lib.attacks.auto_pgd import minimal_apgd

    def fool(attack: Any) -> Run:
        return lambda m, x, y: attack(fb.PyTorchModel(m, (0, 1), device="cpu"), x, y, epsilons=None)[1]

    def lib(attack: Callable[..., Tensor], **how: Any) -> Run:
        return lambda m, x, y: attack(m, x, y, **how)

    found: dict[str, Run] = {
        "adv-lib FMN": lib(al.fmn, norm=p, steps=1000),
        "adv-lib PDPGD": lib(al.pdpgd, norm=p, num_steps=1000, proximal_operator=23 if p == 0 else None),
    }
    if p == 0:
        found["adv-lib σ-zero"] = lib(al.sigma_zero, num_steps=1000)
        found["adv-lib VFGA"] = lib(al.vfga, targeted=False, max_iter=100)
        return found
    most = {1.0: 100.0, 2.0: 8.0, math.inf: 0.7}[p]
    large = {"use_large_reps": True} if p == 1 else {}
    found["adv-lib APGD, bisected"] = lib(
        minimal_apgd, norm=p, max_eps=most, binary_search_steps=10, n_iter=100, **large
    )
    found["adv-lib APGD-T, bisected"] = lib(
        minimal_apgd, norm=p, max_eps=most, binary_search_steps=10, n_iter=11, targeted_version=True, num_targets=9
    )
    found["adv-lib FAB"] = lib(al.fab, norm=p, n_iter=110, restarts=1)
    if p > 1:
        found["adv-lib TR"] = lib(al.tr, iter=100, p=p)
    if p == 1:
        found["adv-lib ALMA"] = lib(al.alma, distance="l1", num_steps=1000, init_lr_distance=0.5)
        found["foolbox EAD"] = fool(fb.attacks.EADAttack(binary_search_steps=9, steps=111, decision_rule="L1"))
        found["torchattacks EADL1"] = lambda m, x, y: ta.EADL1(m, max_iterations=111)(x, y)
    if p == 2:
        found["adv-lib DDN"] = lib(al.ddn, steps=1000, levels=None)
        found["adv-lib ALMA"] = lib(al.alma, distance="l2", num_steps=1000, init_lr_distance=0.1)
        found["adv-lib PDGD"] = lib(al.pdgd, num_steps=1000)
        found["foolbox DDN"] = fool(fb.attacks.DDNAttack(steps=1000))
        found["torchattacks C&W"] = lambda m, x, y: ta.CW(m, c=1, lr=0.05, steps=1000)(x, y)
    return found


def arts(p: float) -> dict[str, Run]:
    """The minimum-norm attacks of ART for this norm, with as many of their iterations as 1,000 passes allow."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    def run(make: Callable[..., Any], *, aimed: bool = False, **how: Any) -> Run:
        def search(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            with torch.no_grad():
                out = m(x)
            shape, classes = tuple(x.shape[1:]), out.shape[1]
            guest = PyTorchClassifier(m, nn.CrossEntropyLoss(), shape, classes, clip_values=(0, 1), device_type="cpu")
            label = out.scatter(1, y[:, None], -math.inf).argmax(1) if aimed else y  # its JSMA is always targeted
            found = make(guest, verbose=False, batch_size=len(x), **how)
            return torch.from_numpy(found.generate(x.numpy(), nn.functional.one_hot(label, classes).numpy()))

        return search

    if p == 0:
        return {"ART JSMA": run(evasion.SaliencyMapMethod, aimed=True, gamma=1.0)}
    if p == 1:
        return {
            "ART EAD": run(
                evasion.ElasticNet, binary_search_steps=2, max_iter=50, initial_const=1.0, decision_rule="L1"
            )
        }
    if p == 2:
        return {
            "ART C&W": run(
                evasion.CarliniL2Method, binary_search_steps=1, max_iter=100, learning_rate=0.05, initial_const=10.0
            ),
            "ART DeepFool": run(evasion.DeepFool, max_iter=100),
        }
    return {"ART C&W": run(evasion.CarliniLInfMethod, max_iter=50, learning_rate=0.05, initial_const=10.0)}
