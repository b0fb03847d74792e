"""A model, a question and a plan on some data, and what the rows so far say about it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sparring.attack import Attack
from sparring.data import Samples
from sparring.evaluation import metrics
from sparring.evaluation.rows import ATTACK, CLEAN, CONFIRM, CURVE, Rows
from sparring.evaluation.store import Store
from sparring.problem import Model
from sparring.random import Random
from sparring.swift import Swift
from sparring.threat import ThreatModel

Ids: TypeAlias = Int[np.ndarray, " m"]
"""What some samples are called."""
Places: TypeAlias = Int[np.ndarray, " m"]
"""Where in the data some samples are."""
Key: TypeAlias = tuple[str, str]
"""Stage and attack: what rows are found by."""


ORDER = 0x0DE4
"""The draws that say which samples come first."""


@dataclass(frozen=True)
class Study:
    """Everything that the stages, the checks and the verdict stand on. Only the store changes."""

    model: Model
    samples: Samples
    threat: ThreatModel
    attacks: Mapping[str, Attack]
    store: Store
    drawer: Attack | None = None
    """The attack that draws the curve of a bounded threat."""
    seed: int = 0
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    fast: Swift | None = None
    """The model with a copy that attacks search in its place."""
    first: int | None = None
    """How many samples to ask about, in a random order that is theirs; None for all."""

    @property
    def searched(self) -> Model:
        """What attacks are given: the model with its copy, where the study is about that model."""
        return self.model if self.fast is None or self.fast.model is not self.model else self.fast

    @cached_property
    def keys(self) -> list[Key]:
        """The stages in their order."""
        attacks = [(ATTACK, name) for name in self.attacks]
        return [(CLEAN, CLEAN), *attacks, *([(CURVE, CURVE)] if self.drawer else []), (CONFIRM, CONFIRM)]

    @cached_property
    def asked(self) -> Ids:
        """The samples that the question makes sense for."""
        ids = np.sort(self.samples.ids.numpy()[self.threat.goal.applies(self.samples.y.cpu()).numpy()])
        if self.first is None or self.first >= len(ids):
            return ids
        order = Random(self.seed, torch.from_numpy(ids), stream=ORDER).uniform().numpy()
        return np.sort(ids[np.argsort(order, kind="stable")[: self.first]])

    def rows(self) -> Rows:
        """All rows of the samples that are asked about, in the order of the stages, then of the ids."""
        rows = self.store.rows
        kept = rows if self.first is None else rows.where(np.isin(rows["id"], self.asked))
        return kept.sorted(self.keys)

    def tally(self, before: Key | None = None) -> metrics.Tally:
        """What is known of every sample that was looked at; with `before`, by the rows of the stages before that."""
        rows, eps = self.rows(), self.threat.space.eps
        if before is not None:
            earlier = [attack for _, attack in self.keys[: self.keys.index(before)]]
            rows = rows.where(np.isin(rows["attack"], earlier))
        if isinstance(eps, Tensor):
            eps = eps.detach().double().cpu().numpy()[self.places(np.sort(rows.only(CLEAN)["id"]))]
        return metrics.tally(rows, eps)

    def best(self) -> Tensor:
        """Each sample's best adversarial input, or its own input where there is none."""
        tally, x = self.tally(), self.samples.x.clone()
        owner = dict(zip(tally.ids.tolist(), tally.by, strict=True))
        for points in self.store.points():
            mine = [i for i, one in enumerate(points.ids.tolist()) if owner.get(one) == points.attack]
            owner |= dict.fromkeys(points.ids[mine].tolist())  # a batch that was done twice counts once, as its rows do
            places = torch.from_numpy(self.places(points.ids[mine]))
            x[places.to(x.device)] = points.x[mine].to(x)
        return x

    def places(self, ids: Ids) -> Places:
        """Where in the data these samples are."""
        known = self.samples.ids.numpy()
        order = np.argsort(known)
        return order[np.searchsorted(known, ids, sorter=order)]

    def batch(self, places: Places) -> tuple[Tensor, Tensor, ThreatModel]:
        """Inputs and labels of some samples on the model's device, and the question put to them."""
        index = torch.from_numpy(places)
        x, y = (part[index.to(part.device)].to(self.device) for part in (self.samples.x, self.samples.y))
        return x, y, replace(self.threat, space=self.threat.space.at(index))

    @torch.no_grad()
    def answer(self, x: Tensor) -> Any:
        """The model's plain word."""
        out = self.model(x)
        return out.float() if isinstance(out, Tensor) and out.dtype in (torch.float16, torch.bfloat16) else out
