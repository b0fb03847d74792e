"""Figures are folds over rows: pure, cheap, and the same for a finished run, a resumed one and a merged one."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy.special import betaincinv

from sparring.evaluation.rows import ATTACK, CLEAN, CURVE, Rows

Ids: TypeAlias = Int[np.ndarray, " n"]


def interval(count: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """The exact binomial interval of a share; (0, 1) where there is nothing to share.

    Reference: Clopper & Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 1934.
    """
    tail = (1 - level) / 2
    low = float(betaincinv(count, of - count + 1, tail)) if count > 0 else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return low, high


def spread(ids: Ids, count: int) -> Int[np.ndarray, " m"]:
    """`count` of the ids, evenly spread; all of them where there are fewer."""
    return ids[np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(np.int64)]


@dataclass(frozen=True)
class Tally:
    """What is known of every sample; all arrays are ordered by id."""

    ids: Ids
    right: Bool[np.ndarray, " n"]
    """Whether the clean input is classified rightly."""
    broken: Bool[np.ndarray, " n"]
    """Whether some point of the space meets the attacker's goal, the clean input included."""
    distance: Float[np.ndarray, " n"]
    """The smallest distance found; 0 where the clean input is wrong or meets the goal, inf where nothing was found."""
    by: NDArray[Any]
    """The attack (or stage) whose point is the best one of the sample; empty where there is none."""

    @property
    def standing(self) -> Bool[np.ndarray, " n"]:
        """Right, and not broken."""
        return self.right & ~self.broken


def tally(rows: Rows, eps: Float[np.ndarray, " n"] | float | None) -> Tally:
    """Fold the rows of one evaluation; `eps` is the threat's (one a sample in the order of ids, or one, or None).

    For a bounded threat the first attack to succeed owns a sample, in the order of `rows`, and a point found on the
    way to the curve counts where it lies within eps. For a free one the nearest point owns it.
    """
    clean = rows.only(CLEAN)
    order = np.argsort(clean["id"])
    ids, right = clean["id"][order], clean["right"][order]
    broken, distance = clean["success"][order], np.where(right, clean["distance"][order], 0.0)
    by = np.where(broken | ~right, CLEAN, "").astype(object)
    limit = np.broadcast_to(np.inf if eps is None else eps, ids.shape)
    for stage, attack in dict.fromkeys(zip(rows["stage"], rows["attack"], strict=True)):
        if stage not in (ATTACK, CURVE):
            continue
        part = rows.only(stage, attack)
        part = part.where(part["success"])
        at, far = np.searchsorted(ids, part["id"]), part["distance"]
        inside = far <= limit[at] if stage == CURVE else np.ones_like(far, dtype=bool)
        better = inside & ((far < distance[at]) if eps is None else ~broken[at])
        by[at[better]] = attack
        broken[at[inside]] = True
        distance[at] = np.minimum(distance[at], far)
    return Tally(ids, right, broken, distance, by)


def curve(distance: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Accuracy as a step function of eps: from each eps on, up to the next, the share whose distance is larger.

    Starts at eps 0, where wrong samples (distance 0) have fallen.
    """
    eps = np.unique(np.concatenate([[0.0], distance[np.isfinite(distance)]]))
    fallen = np.searchsorted(np.sort(distance), eps, side="right")
    return eps, 1 - fallen / max(len(distance), 1)


def success_by_queries(rows: Rows) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """The share of all rightly classified samples broken within so many forward passes, the plan's attacks in order."""
    clean = rows.only(CLEAN)
    ids = np.sort(clean["id"][clean["right"] & ~clean["success"]])
    spent, when = np.zeros(len(ids), dtype=np.int64), np.full(len(ids), -1, dtype=np.int64)
    attacks = rows.only(ATTACK)
    for attack in dict.fromkeys(attacks["attack"]):
        part = attacks.only(ATTACK, attack)
        at = np.searchsorted(ids, part["id"])
        spent[at] += part["forwards"]
        when[at] = np.where(part["success"] & (when[at] < 0), spent[at], when[at])
    queries = np.unique(when[when >= 0])
    return queries, np.searchsorted(np.sort(when[when >= 0]), queries, side="right") / max(len(ids), 1)


@dataclass(frozen=True)
class Share:
    """What one attack of the plan did."""

    attack: str
    seen: int
    """How many samples it was run on."""
    broke: int
    """How many it succeeded on."""
    owned: int
    """How many it was needed for: first to break them or, for a free threat, nearest."""
    forwards: int
    backwards: int
    seconds: float

    @property
    def share(self) -> float:
        """Broke, of seen; 0 of none."""
        return self.broke / self.seen if self.seen else 0.0


def shares(rows: Rows, result: Tally, attacks: tuple[str, ...]) -> tuple[Share, ...]:
    """What each attack did, in the order given; one that had nothing left to do is listed with zeros."""
    return tuple(
        Share(
            attack,
            len(part),
            int(part["success"].sum()),
            int((result.by == attack).sum()),
            int(part["forwards"].sum()),
            int(part["backwards"].sum()),
            float(part["seconds"].sum()),
        )
        for attack, part in ((attack, rows.only(ATTACK, attack)) for attack in attacks)
    )
