"""What may be wrong with the evaluation itself: each check says what it saw, what that means, and what to do.

Reference: Carlini et al., "On evaluating adversarial robustness", 2019, arXiv:1902.06705; Pintor et al., "Indicators
of attack failure: debugging and improving optimization of adversarial examples", NeurIPS 2022, arXiv:2106.09947.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from sparring import models
from sparring.errors import ModelError
from sparring.evaluation.checks_search import STREAM, further, grows, squares, stronger, transfers, unbounded
from sparring.evaluation.copies import believed
from sparring.evaluation.defences import attacked_through
from sparring.evaluation.metrics import Tally, spread
from sparring.evaluation.rows import CONFIRM, CURVE
from sparring.evaluation.sizing import in_parts
from sparring.evaluation.study import Ids, Study
from sparring.evaluation.verdict import Check
from sparring.goals import ClassGoal
from sparring.losses import cross_entropy, margin
from sparring.models.blackbox import BlackBox
from sparring.problem import Gradients, bind
from sparring.random import Random
from sparring.spaces import L1, L2, Linf
from sparring.threat import Access

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
        yield from transfers(study, few)
        yield unbounded(study, few)
        yield grows(study, few)
        yield further(study, tally)
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
    rows = study.rows().only(CONFIRM)
    lost = int((~rows["success"]).sum())
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
    if not found and (tried := squares(study, tally)) is not None:
        found, right = {"a search by 25 squares": tried[0]}, tried[1]
        if not right:
            return Check(name, True, "the first search left nothing for squares to find")
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


def _missed(study: Study, tally: Tally) -> Check:
    missed = int((tally.by == CURVE).sum())
    return Check(
        "the curve agrees with the plan",
        missed == 0,
        f"the search for the smallest perturbation, on {len(study.rows().only(CURVE))} samples, broke {missed} inside "
        f"eps that the plan had left",
        f"the plan is too weak for this model: use {stronger(study)}attacks of your own with more steps",
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

    def flatness(rows: slice) -> Tensor:
        x, y, threat = study.batch(study.places(ids[rows]))
        which = torch.from_numpy(ids[rows])
        p = bind(study.model, x, y, threat, seed=study.seed, ids=which, stream=STREAM, retire=False)
        assert isinstance(p, Gradients)
        delta = p.space.zeros(p.x) if threat.space.eps is None else p.space.draw(p.x, p.random)
        zero = _zero(p.gradient(delta, margin).gradient)
        flat = _zero(p.gradient(delta, cross_entropy).gradient) if isinstance(p.goal, ClassGoal) else zero
        return torch.stack([zero, flat], 1)

    try:
        zero, flat = in_parts(flatness, len(ids)).sum(0).tolist()
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

    def trembling(rows: slice) -> Tensor:
        x, y, threat = study.batch(study.places(ids[rows]))
        space, goal, which = threat.space.bind(x), threat.goal.bind(y), torch.from_numpy(ids[rows])
        clean, moved = goal.margin(study.answer(x)), torch.zeros_like(x.flatten(1)[:, 0])
        for draw in range(TREMORS):
            random = Random(study.seed, which, stream=STREAM + 1 + draw, dtype=x.dtype, device=x.device)
            delta = 0.1 * space.draw(x, random)
            change = (goal.margin(study.answer(space.apply(x, delta))) - clean).abs() / clean.abs().clamp_min(1e-6)
            moved = moved + change.clamp_max(1) / TREMORS
        return moved

    share = float(in_parts(trembling, len(ids)).median())
    return Check(
        name,
        share <= 0.1,
        f"random noise of a tenth of eps moves the margin of half of the samples by {100 * share:.1f} % or more",
        "small steps see noise: average over it (Averaged, for a random model), take longer steps, or use "
        + _search(study),
    )


def _zero(gradient: Tensor) -> Tensor:
    return ~(gradient.flatten(1).abs().amax(1) > 0)  # NaN leads nowhere either
