"""Checks that search: what another attack, or the same one given more room, finds where the plan found nothing."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sparring.attack import Attack, Transfer
from sparring.attacks import APGD, PGD, Square
from sparring.errors import InputError
from sparring.evaluation.metrics import Tally, spread
from sparring.evaluation.plan import plan_for
from sparring.evaluation.rows import ATTACK
from sparring.evaluation.sizing import in_parts
from sparring.evaluation.study import Ids, Study
from sparring.evaluation.verdict import Check
from sparring.losses import margin
from sparring.spaces import L0, L1, L2, Ball, Linf
from sparring.threat import Access, ThreatModel
from sparring.types import Batch, Labels

STREAM = 0xC4EC
"""The checks' own random draws."""


def squares(study: Study, tally: Tally) -> tuple[int, int] | None:
    """How many samples 25 squares break of some that the first of several attacks, a search by gradients, left.

    None where squares do not fit the question.
    """
    first, space = next(iter(study.attacks)), study.threat.space
    fits = isinstance(space, Linf | L2 | L1) and space.eps is not None and len(study.attacks) > 1
    if not fits or study.attacks[first].access != Access.GRADIENTS:
        return None
    left = spread(tally.ids[tally.right & (tally.by != first)], 64)
    return int(_break(study, Square(25), left, study.threat).sum()), len(left)


def transfers(study: Study, ids: Ids) -> Iterator[Check]:
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


def unbounded(study: Study, ids: Ids) -> Check:
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


def grows(study: Study, ids: Ids) -> Check:
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

    broke, slack = _break_at(study, attack, ids, [grown(scale * space.eps) for scale in scales]), round(0.03 * len(ids))
    return Check(
        name,
        all(more >= fewer - max(1, slack) for fewer, more in pairwise(broke)),
        f"at {', '.join(f'{scale:g}' for scale in scales)} times eps, a short attack broke "
        f"{', '.join(map(str, broke))} of {len(ids)} samples",
        "the search is lost where there is more room: the gradients mislead, or the steps are too few",
    )


def further(study: Study, tally: Tally) -> Check:
    """More of the same, on the samples that came nearest to falling, should find next to nothing."""
    name, standing = "a further search finds no more", tally.ids[tally.standing]
    attack: Attack = APGD(30, loss=margin)
    if study.threat.access < attack.access:
        attack = Square(150)
    fits = isinstance(study.threat.space, Linf | L2 | L1) and study.threat.space.eps is not None
    if not fits or study.threat.access < attack.access or not len(standing):
        return Check(name, None, "nothing stands, or no attack of the checks fits this question")
    least = np.full(len(standing), np.inf)
    rows = study.rows().only(ATTACK)
    kept = rows.where(np.isin(rows["id"], standing))
    np.minimum.at(least, np.searchsorted(standing, kept["id"]), kept["margin"])
    near = np.sort(standing[np.argsort(least, kind="stable")[:32]])
    broke = int(_break(study, attack, near, study.threat).sum())
    return Check(
        name,
        broke < max(2.0, 0.005 * int(tally.right.sum())),
        f"one more search, with other random draws, broke {broke} of the {len(near)} standing samples that were "
        f"nearest to falling",
        f"the plan has not finished: use {stronger(study)}more steps and restarts",
    )


def stronger(study: Study) -> str:
    """The plans by name that go further than the study's own, followed by "or": advice goes on from there."""
    if _is(study, "thorough"):
        return ""
    if _is(study, "standard") or _is(study, "autoattack"):
        return "'thorough', or "
    return "'standard', or " if isinstance(study.threat.space, L0) else "'standard' or 'autoattack', or "


def _is(study: Study, plan: str) -> bool:
    try:
        return dict(study.attacks) == plan_for(plan, study.threat)
    except InputError:  # there is no such plan for this question
        return False


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
    return _success(study, attack, x, y, question, which).unflatten(0, (times, -1)).sum(1).tolist()


def _break(study: Study, attack: Attack, ids: Ids, threat: ThreatModel) -> Tensor:
    """Which samples an attack breaks under a question of the checks' own."""
    places = study.places(ids)
    x, y, _ = study.batch(places)
    question = replace(threat, space=threat.space.at(torch.from_numpy(places)))
    return _success(study, attack, x, y, question, torch.from_numpy(ids))


def _success(study: Study, attack: Attack, x: Batch, y: Labels, question: ThreatModel, ids: Labels) -> Tensor:
    """Which rows the attack breaks; in parts where memory runs out, as the checks know of no batch that fitted."""

    def broken(rows: slice) -> Tensor:
        few = replace(question, space=question.space.at(torch.arange(len(x))[rows]))
        return attack(study.searched, x[rows], y[rows], few, seed=study.seed, ids=ids[rows], stream=STREAM).success

    return in_parts(broken, len(x)) if len(x) else y.bool()
