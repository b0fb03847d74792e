"""What may be wrong with the evaluation itself: each check says what it saw, what that means, and what to do.

Reference: Carlini et al., "On evaluating adversarial robustness", 2019, arXiv:1902.06705; Pintor et al., "Indicators
of attack failure: debugging and improving optimization of adversarial examples", NeurIPS 2022, arXiv:2106.09947.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sparring import models
from sparring.attack import Attack, Transfer
from sparring.attacks import APGD, PGD, Square
from sparring.errors import ModelError
from sparring.evaluation.copies import believed
from sparring.evaluation.defences import attacked_through
from sparring.evaluation.metrics import Tally, spread
from sparring.evaluation.rows import ATTACK, CONFIRM, CURVE
from sparring.evaluation.study import Ids, Study
from sparring.evaluation.verdict import Check
from sparring.goals import ClassGoal
from sparring.losses import cross_entropy, margin
from sparring.models.blackbox import BlackBox
from sparring.problem import Gradients, bind
from sparring.random import Random
from sparring.spaces import L0, L1, L2, Ball, Linf
from sparring.threat import Access, ThreatModel

STREAM = 0xC4EC
"""The checks' own random draws."""
TREMORS = 10
"""How many draws of noise the margin is looked at in."""


def examine(study: Study) -> list[Check]:
    """Every check that fits the question, the cheap ones first."""
    return list(_examine(study))


def _examine(study: Study) -> Iterator[Check]:
    tally = study.tally()
    right = tally.ids[tally.right]
    few = spread(right, min(64, max(16, len(right) // 8)))
    yield from _door(study)
    yield from attacked_through(study)
    yield _confirmed(study)
    yield from believed(study)
    yield _weaker(study, tally)
    if study.drawer is not None:
        yield _missed(study, tally)
    if len(few):
        yield _gradients(study, few)
        yield _steady(study, few)
        yield from _transfers(study, few)
        yield _unbounded(study, few)
        yield _grows(study, few)
        yield _further(study, tally)
    if isinstance(study.model, BlackBox):
        yield from _answering(study.model)


def _answering(model: BlackBox) -> Iterator[Check]:
    """What asking took, and whether the same question always had the same answer."""
    steady, text = model.troubles()
    if text:
        advice = "the model answers at random: a verdict on it holds for the answers that were kept, not for the next"
        yield Check("the endpoint answers", steady, text, advice)


def _door(study: Study) -> Iterator[Check]:
    """What the door said of the first samples; nothing that failed there but warnings came so far."""
    x, y, threat = study.batch(study.places(spread(study.asked, 32)))
    for finding in models.examine(study.model, x, y, threat.space.box):
        yield Check(finding.name, finding.passed, finding.sentence)


def _confirmed(study: Study) -> Check:
    lost = int((~(rows := study.rows().only(CONFIRM))["success"]).sum())
    return Check(
        "adversarial inputs hold",
        lost == 0,
        f"of {len(rows)} saved adversarial inputs, {len(rows) - lost} still meet the goal inside the space, by a "
        f"forward pass of their own",
        "the model answers unsteadily, or within a rounding error of a tie: judge it by its mean, as in Averaged",
    )


def _weaker(study: Study, tally: Tally) -> Check:
    """An attack must not find what those before it that see more have missed; where none came after, squares try."""
    found, seen = dict[str, int](), Access.DECISIONS
    for name, attack in study.attacks.items():
        if attack.access < seen:
            found[name] = int(((tally.by == name) & tally.right).sum())
        seen = max(seen, attack.access)
    right, name = int(tally.right.sum()), "seeing less finds no more"
    if not found and (left := _left_by_gradients(study, tally)) is not None:
        found, right = {"a search by 25 squares": int(_break(study, Square(25), left, study.threat).sum())}, len(left)
    if not found:
        advice = (
            f"add {_search(study)} to the plan" if seen > Access.SCORES else "add an attack by decisions to the plan"
        )
        if seen <= Access.SCORES and isinstance(study.threat.space, Linf | L2):
            advice = "add RayS() or HopSkipJump() to the plan"
        return Check(name, None, "no attack came after one that sees more than it does", advice)
    allowed = 0.01 * right if study.threat.space.eps is not None else 0.05 * right
    return Check(
        name,
        sum(found.values()) <= max(1.0, allowed),
        f"{', '.join(f'{who} broke {count}' for who, count in found.items())} of {right} samples, which attacks that "
        f"see more had left",
        "the gradients mislead (masking): attack the model without its non-differentiable or random parts, or give "
        f"{_search(study)} more queries"
        if seen > Access.SCORES
        else "the scores mislead: trust those that ask for decisions, or give those more queries",
    )


def _left_by_gradients(study: Study, tally: Tally) -> Ids | None:
    """Some samples that the first of several attacks, a search by gradients, left; None where squares do not fit."""
    first, space = next(iter(study.attacks)), study.threat.space
    fits = isinstance(space, Linf | L2 | L1) and space.eps is not None and len(study.attacks) > 1
    left = tally.ids[tally.right & (tally.by != first)]
    return spread(left, 64) if fits and study.attacks[first].access == Access.GRADIENTS else None


def _missed(study: Study, tally: Tally) -> Check:
    missed = int((tally.by == CURVE).sum())
    known = "'standard'" if isinstance(study.threat.space, L0) else "'standard' or 'autoattack'"
    return Check(
        "the curve agrees with the plan",
        missed == 0,
        f"the search for the smallest perturbation, on {len(study.rows().only(CURVE))} samples, broke {missed} inside "
        f"eps that the plan had left",
        f"the plan is too weak for this model: use {known}, or attacks of your own with more steps",
    )


def _search(study: Study) -> str:
    """An attack by scores that works in the study's space, as one writes it."""
    space = study.threat.space
    if isinstance(space, Linf | L2 | L1):
        return "Square()"
    return {"L0": "SparseRS()", "Patch": "PatchSearch()"}.get(type(space).__name__, "an attack by scores")


def _gradients(study: Study, ids: Ids) -> Check:
    """A gradient that is zero everywhere leads nowhere: masked, saturated, or cut off."""
    name = "gradients exist"
    advice = f"differentiate through what cuts them off (a surrogate backward), or use {_search(study)}"
    if study.threat.access < Access.GRADIENTS:
        return Check(name, None, "the attacker sees no gradients")
    x, y, threat = study.batch(study.places(ids))
    p = bind(study.model, x, y, threat, seed=study.seed, ids=torch.from_numpy(ids), stream=STREAM, retire=False)
    assert isinstance(p, Gradients)
    delta = p.space.zeros(p.x) if threat.space.eps is None else p.space.draw(p.x, p.random)
    try:
        zero = _zero(p.gradient(delta, margin).gradient)
        flat = _zero(p.gradient(delta, cross_entropy).gradient) if isinstance(p.goal, ClassGoal) else zero
    except ModelError as error:
        return Check(name, False, str(error), advice)
    saw = f"the margin's gradient is zero on {zero} of {len(ids)} samples, and that of cross-entropy on {flat}"
    return Check(name, zero <= 0.05 * len(ids), saw, advice)


@torch.no_grad()
def _steady(study: Study, ids: Ids) -> Check:
    """Where the margin trembles, its slope says little about where it falls.

    Reference: Pintor et al. 2022, indicator "unstable predictions", and its 10 %; here in noise of a tenth of eps.
    """
    name = "the margin is steady near the inputs"
    if study.threat.space.eps is None:
        return Check(name, None, "the question has no eps to take a tenth of")
    x, y, threat = study.batch(study.places(ids))
    space, goal = threat.space.bind(x), threat.goal.bind(y)
    clean, moved = goal.margin(study.answer(x)), torch.zeros_like(x.flatten(1)[:, 0])
    for draw in range(TREMORS):
        random = Random(study.seed, torch.from_numpy(ids), stream=STREAM + 1 + draw, dtype=x.dtype, device=x.device)
        delta = 0.1 * space.draw(x, random)
        change = (goal.margin(study.answer(space.apply(x, delta))) - clean).abs() / clean.abs().clamp_min(1e-6)
        moved = moved + change.clamp_max(1) / TREMORS
    share = float(moved.median())
    return Check(
        name,
        share <= 0.1,
        f"random noise of a tenth of eps moves the margin of half of the samples by {100 * share:.1f} % or more",
        "small steps see noise: average over it (Averaged, for a random model), take longer steps, or use "
        + _search(study),
    )


def _transfers(study: Study, ids: Ids) -> Iterator[Check]:
    """What fools the surrogate should fool the model, or the surrogate is the wrong one."""
    for name, attack in study.attacks.items():
        if isinstance(attack, Transfer) and study.threat.space.eps is not None:
            mine = replace(study, model=attack.surrogate, threat=replace(study.threat, access=Access.GRADIENTS))
            fooled = _break(mine, attack.attack, ids, mine.threat).cpu().numpy()
            took = int(_break(study, attack, ids[fooled], study.threat).sum()) if fooled.any() else 0
            yield Check(
                f"{name} transfers",
                bool(fooled.any()) and took >= 0.1 * int(fooled.sum()),
                f"of {len(ids)} samples {int(fooled.sum())} fooled the surrogate, and {took} of those the model",
                "the surrogate is too unlike the model: train it on the model's own answers, or attack it harder",
            )


def _zero(gradient: Tensor) -> int:
    return int((~(gradient.flatten(1).abs().amax(1) > 0)).sum())  # NaN leads nowhere either


def _unbounded(study: Study, ids: Ids) -> Check:
    """With the whole box to move in, every attack must succeed."""
    name, space = "an unbounded attack succeeds", study.threat.space
    attack = PGD(40, loss=margin, random_start=False) if study.threat.access >= Access.GRADIENTS else Square(300)
    if not isinstance(space, Ball) or study.threat.access < attack.access:
        return Check(name, None, "no attack of the checks fits this question")
    low, high = (torch.as_tensor(bound) for bound in space.box)
    whole = replace(study.threat, space=Linf(float((high - low).max()), space.box), queries=None)
    broke = int(_break(study, attack, ids, whole).sum())
    return Check(
        name,
        broke == len(ids),
        f"a search from the clean input, free to go anywhere in the box, broke {broke} of {len(ids)} samples",
        "the attacks cannot follow this model, and its robust accuracy means nothing: look for masked gradients",
    )


def _grows(study: Study, ids: Ids) -> Check:
    """Twice the eps must not break fewer."""
    name, space, threat = "success grows with eps", study.threat.space, study.threat
    attack: Attack = PGD(10, loss=margin)
    if threat.access < attack.access:
        attack = Square(50)
    fits = isinstance(space, Linf | L2 | L1) or isinstance(attack, PGD)
    if not isinstance(space, Ball) or not fits or space.eps is None or threat.access < attack.access:
        return Check(name, None, "there is no eps to grow, or no attack of the checks fits this question")
    scales = (1, 2, 4) if isinstance(space, L0) else (0.5, 1, 2)
    most = space.widest(study.samples.x)  # there is no more room than the box has

    def grown(eps: float | Tensor) -> float | Tensor:
        return torch.minimum(eps, most.to(eps)) if isinstance(eps, Tensor) else min(eps, float(most.min()))

    broke = _break_at(study, attack, ids, [grown(scale * space.eps) for scale in scales])
    return Check(
        name,
        all(more >= fewer - max(1, round(0.03 * len(ids))) for fewer, more in pairwise(broke)),
        f"at {', '.join(f'{scale:g}' for scale in scales)} times eps, a short attack broke "
        f"{', '.join(map(str, broke))} of {len(ids)} samples",
        "the search is lost where there is more room: the gradients mislead, or the steps are too few",
    )


def _further(study: Study, tally: Tally) -> Check:
    """More of the same, on the samples that came nearest to falling, should find next to nothing."""
    name, standing = "a further search finds no more", tally.ids[tally.standing]
    attack: Attack = APGD(50, loss=margin)
    if study.threat.access < attack.access:
        attack = Square(300)
    fits = isinstance(study.threat.space, Linf | L2 | L1) and study.threat.space.eps is not None
    if not fits or study.threat.access < attack.access or not len(standing):
        return Check(name, None, "nothing stands, or no attack of the checks fits this question")
    least = np.full(len(standing), np.inf)
    kept = (rows := study.rows().only(ATTACK)).where(np.isin(rows["id"], standing))
    np.minimum.at(least, np.searchsorted(standing, kept["id"]), kept["margin"])
    near, asked, broke = standing[np.argsort(least, kind="stable")[:32]], 0, 0
    for some in (near[:8], near[8:]):  # where none of the first falls, those that are further off are let be
        if broke or not asked:
            broke, asked = broke + int(_break(study, attack, np.sort(some), study.threat).sum()), asked + len(some)
    return Check(
        name,
        broke < max(2.0, 0.005 * int(tally.right.sum())),
        f"one more search, with other random draws, broke {broke} of the {asked} standing samples that were nearest "
        f"to falling",
        "the plan has not finished: use 'standard' or 'autoattack', or more steps and restarts",
    )


def _break_at(study: Study, attack: Attack, ids: Ids, radii: list[float | Tensor]) -> list[int]:
    """How many samples an attack breaks at each of these eps, asked about side by side."""
    places, times = study.places(ids), len(radii)
    x, y, _ = study.batch(places)
    index, space = torch.from_numpy(places), study.threat.space
    assert isinstance(space, Ball)
    eps = torch.cat([eps[index].to(x) if isinstance(eps, Tensor) else x.new_full((len(x),), eps) for eps in radii])
    wide = replace(space.at(index.repeat(times)), eps=eps)
    question = replace(study.threat, space=wide, queries=None)
    x, y, which = torch.cat([x] * times), y.repeat(times), torch.from_numpy(ids).repeat(times)
    found = attack(study.searched, x, y, question, seed=study.seed, ids=which, stream=STREAM).success
    return found.unflatten(0, (times, -1)).sum(1).tolist()


def _break(study: Study, attack: Attack, ids: Ids, threat: ThreatModel) -> Tensor:
    """Which samples an attack breaks under a question of the checks' own."""
    x, y, _ = study.batch(places := study.places(ids))
    question = replace(threat, space=threat.space.at(torch.from_numpy(places)))
    return attack(study.searched, x, y, question, seed=study.seed, ids=torch.from_numpy(ids), stream=STREAM).success
