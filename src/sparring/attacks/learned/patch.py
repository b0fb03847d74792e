"""One patch for all images and all places: painted once, shown to anything."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from sparring import spec
from sparring.attack import DecisionAttack
from sparring.attacks.learned import keeping
from sparring.attacks.learned.recipe import FitRecord
from sparring.attacks.learned.shared import WELL_LOST
from sparring.batches import Data, order, size_of, taken
from sparring.errors import AccessError, InputError, ModelError, StoreError
from sparring.guest import frozen
from sparring.losses import Loss, Point
from sparring.pairs import gathered
from sparring.problem import Decisions, Model, check
from sparring.random import Random
from sparring.spaces import Patch, Space
from sparring.threat import Access, ThreatModel, as_threat
from sparring.types import Delta

DRAWS = 0xBA7C << 16
"""The draws of places, an epoch each."""


@dataclass(frozen=True, eq=False)
class Sticker(DecisionAttack):
    """The same patch on every image, at the space's place or, where it has none, at a few random ones.

    Works in the `Patch` of its own size. Where eps is below 1, its colours come as near as eps allows.
    """

    content: Tensor
    """What it shows, channels × height × width, in the units of the box."""
    places: int = 1
    """At how many places it is tried on an image."""
    record: FitRecord = field(default_factory=FitRecord)

    def search(self, p: Decisions, /) -> Delta:
        space, delta = _patch(p.space, self), p.space.zeros(p.x)
        sides = (p.x.shape[1], space.height, space.width)
        if tuple(self.content.shape) != sides:
            raise InputError(
                f"this patch is {tuple(self.content.shape)}, and the space's {sides}; give the one it is for"
            )
        for _ in p.steps(self.places):
            p.observe(delta)
            shown = space.showing(p.x, self.content[None].to(p.x), space.draw(p.x, p.random))
            delta = space.project(p.x, shown)
        return delta

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, the record as JSON in its header."""
        settings = {"record": spec.write(self.record), "places": self.places}
        keeping.write(Path(path), {"content": self.content}, settings)

    @classmethod
    def load(cls, path: str | Path) -> "Sticker":
        """The attack that `save` wrote; raises StoreError where the file holds something else."""
        tensors, settings = keeping.read(Path(path))
        if set(tensors) != {"content"}:
            raise StoreError(f"{path} holds no patch; was it a universal perturbation?")
        return cls(tensors["content"], settings["places"], spec.read(settings["record"]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sticker):
            return False
        same = (self.places, self.record) == (other.places, other.record)
        return same and torch.equal(self.content, other.content)

    def __hash__(self) -> int:
        return hash((self.content.shape, self.places, self.record))

    def __repr__(self) -> str:
        return f"Sticker({' × '.join(map(str, self.content.shape))}, places={self.places})"


def fit_patch(
    model: Model,
    data: Data,
    threat: ThreatModel | Space | str,
    *,
    loss: Loss = WELL_LOST,
    rate: float = 0.05,
    places: int = 1,
    epochs: int = 5,
    batch_size: int = 32,
    seed: int = 0,
) -> Sticker:
    """Paint one patch that lowers the mean loss over the images, each with the patch at a random place of its own.

    Adam, `rate` in units of the box's width. Views other than of place (size, turns, print) belong to the model that it
    is fitted to, as in `Averaged(nn.Sequential(RandomResize(0.8), model), 4)`. At `Targeted(3)` all images are taken to
    one class. The model is left as it was. Raises InputError, AccessError or ModelError where the fit cannot be.

    Reference: Brown, Mané, Roy, Abadi & Gilmer, "Adversarial patch", NIPS 2017 workshop, arXiv:1712.09665, section 2.
    """
    data = gathered(data)
    question, size = as_threat(threat), size_of(data)
    space = _patch(question.space, fit_patch)
    if question.access < Access.GRADIENTS:
        raise AccessError(
            f"fitting takes the model's gradients; the threat model grants {question.access.name.lower()}"
        )
    if min(epochs, batch_size, size, places) < 1:
        raise InputError(f"{epochs} epochs of {size} samples, {batch_size} a batch: each must be at least 1")
    if not 0 < rate < torch.inf:
        raise InputError(f"rate is {rate}; give a number above 0, in units of the box's width")
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    x = check(*taken(data, torch.arange(1)), space)[0]
    x = x if weight is None else x.to(weight.device)
    (low, high), losses, fooled = map(float, space.box), list[float](), list[float]()
    content = x.new_full((1, x.shape[1], space.height, space.width), (low + high) / 2).requires_grad_()
    adam = torch.optim.Adam([content], rate * (high - low))
    with frozen(model):
        for epoch in range(epochs):
            total, met = 0.0, 0
            for ids in order(size, seed, epoch).split(batch_size):
                x, y = (part.to(content.device) for part in check(*taken(data, ids), space))
                random, goal = (
                    Random(seed, ids, stream=DRAWS + epoch, dtype=x.dtype, device=x.device),
                    question.goal.bind(y),
                )
                delta = space.project(x, space.showing(x, content, space.draw(x, random)))
                out = model(space.apply(x, delta))
                value = loss(Point(delta, out, goal)).mean()
                if not (value.requires_grad and bool(value.isfinite())):
                    raise ModelError(
                        "the model's answer has no gradient, or is no number; give a differentiable surrogate"
                    )
                (content.grad,) = torch.autograd.grad(value, [content])
                adam.step()
                content.data.clamp_(low, high)
                total, met = total + len(x) * value.item(), met + int((goal.margin(out.detach()) < 0).sum())
            losses.append(total / size)
            fooled.append(met / size)
    record = FitRecord(f"fit_patch(rate={rate})", size, seed, tuple(losses), tuple(fooled))
    return Sticker(content.detach()[0].cpu().clone(), places, record)


def _patch(space: Space, who: object) -> Patch:
    """The space, where it is of patches; raises InputError elsewhere."""
    if isinstance(space, Patch):
        return space
    name = getattr(who, "__name__", type(who).__name__)
    raise InputError(f"{name} works in Patch, not in {type(space).__name__}; choose another attack")
