"""The other end of a verdict: what is proven of each sample, beside what attacks found of it.

A sample that is certified and broken is impossible; where there is one, a bound or an attack is wrong, and a check says
so.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Int

from sparring.certify import Method, certify
from sparring.errors import InputError, ModelError, StoreError
from sparring.evaluation.sizing import halving
from sparring.evaluation.stages import PATIENCE
from sparring.evaluation.store import Store
from sparring.models import Model
from sparring.threat import ThreatModel
from sparring.types import Batch, Labels
from sparring.world import World

CHUNK = 64
"""How many samples are certified between two writings of the store."""
NOTE = "certificates"
"""The name of the document that keeps them."""


@dataclass(frozen=True)
class Bracket:
    """What was proven of the samples of a verdict, ordered by id."""

    method: str
    ids: Int[np.ndarray, " n"]
    certified: Bool[np.ndarray, " n"]
    by: tuple[str, ...]
    """What settled each sample."""
    refused: str = ""
    """Why nothing could be proven, where the model or the threat has no bounds; the arrays are empty then."""

    def counts(self) -> dict[str, int]:
        """How many samples each method certified."""
        known = Counter(name for name, sure in zip(self.by, self.certified, strict=True) if sure)
        return dict(known)

    def agreement(self, broken: Bool[np.ndarray, " n"]) -> tuple[bool | None, str, str]:
        """Whether attacks broke nothing that is certified: passed, what was seen, and what to do."""
        if self.refused:
            return None, f"nothing is certified: {self.refused}", ""
        both = self.ids[self.certified & broken]
        if len(both):
            some = ", ".join(str(one) for one in both[:5])
            return (
                False,
                f"{len(both)} samples are certified and yet broken (ids {some})",
                "a bound or an attack is wrong: please report the model and these inputs",
            )
        return True, f"none of the {int(self.certified.sum()):,} certified samples was broken", ""


def bracket(
    model: Model,
    x: Batch,
    y: Labels,
    ids: Labels,
    fallen: Int[np.ndarray, " m"],
    threat: ThreatModel,
    method: Method,
    store: Store,
    world: World,
    device: torch.device,
) -> Bracket:
    """Certify samples, and keep in the store what is done; of several processes the first does it.

    Those whose ids have `fallen` are tried too, so that a proof and an attack can contradict each other, but for the
    dearest method.
    """
    while world.rank != 0:
        kept = _kept(store, method)
        if kept.done:
            return kept.bracket(ids)
        time.sleep(PATIENCE)
    kept = _kept(store, method)
    left = torch.tensor([i for i, one in enumerate(ids.tolist()) if one not in kept.by], dtype=torch.long)
    space, broken = threat.space.bind(x), torch.from_numpy(np.isin(ids.cpu().numpy(), fallen))
    size = 16
    for some in left.split(CHUNK) if len(left) and not kept.refused else ():
        question = ThreatModel(space.at(some), threat.goal, threat.access, threat.queries)
        try:
            sent = x[some].to(device), y[some].to(device)
            known = broken[some].to(device)
            prove = partial(certify, model, sent, question, method=method, broken=known)
            found, size = halving(lambda size, prove=prove: prove(batch_size=size), size)
        except (InputError, ModelError) as error:
            kept.refused = str(error)
            break
        kept.by.update(zip(ids[some].tolist(), found.method, strict=True))
        kept.sure |= {one for one, sure in zip(ids[some].tolist(), found.certified.tolist(), strict=True) if sure}
        store.note(NOTE, kept.noted())
    kept.done = True
    store.note(NOTE, kept.noted())
    return kept.bracket(ids)


def remembered(store: Store, ids: Labels) -> Bracket | None:
    """What the store holds of these samples, of whichever method; None where anything is missing."""
    noted: Any = store.noted(NOTE)
    kept = _kept(store, str(cast(Any, noted).get("method"))) if isinstance(noted, dict) else Kept("")
    return kept.bracket(ids) if kept.done and not kept.refused and kept.by.keys() >= set(ids.tolist()) else None


@dataclass
class Kept:
    """What the store holds of one method."""

    method: str
    by: dict[int, str] = field(default_factory=dict[int, str])
    sure: set[int] = field(default_factory=set[int])
    refused: str = ""
    done: bool = False

    def noted(self) -> dict[str, Any]:
        """The document in the store."""
        by = {str(one): name for one, name in self.by.items()}
        return {
            "method": self.method,
            "by": by,
            "certified": sorted(self.sure),
            "refused": self.refused,
            "done": self.done,
        }

    def bracket(self, ids: Labels) -> Bracket:
        """What it says of these samples, ordered by id."""
        named = [] if self.refused else sorted(ids.tolist())
        sure = np.array([one in self.sure for one in named], dtype=bool)
        by = tuple(self.by[one] for one in named)
        return Bracket(self.method, np.array(named, dtype=np.int64), sure, by, self.refused)


def _kept(store: Store, method: str) -> Kept:
    """What the store holds of this method; another method's certificates are done anew."""
    noted: Any = store.noted(NOTE)
    if not isinstance(noted, dict) or cast(Any, noted).get("method") != method:
        return Kept(method)
    try:
        found = cast(dict[str, Any], noted)
        by = {int(one): str(name) for one, name in found["by"].items()}
        return Kept(method, by, set(found["certified"]), str(found["refused"]), bool(found["done"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{NOTE}.json is damaged ({error}); delete it: only certificates are done again") from error
