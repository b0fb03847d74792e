"""The peers' attacks by decisions and scores, asked through a meter, one image at a time."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sparring.geometry import norm


class SpentError(Exception):
    """The budget is used up."""


class Meter(nn.Module):
    """Counts the rows that it is asked about, and notes how near the nearest adversarial one is after each."""

    def __init__(self, model: nn.Module, x: Tensor, y: int, p: float, limit: int):
        super().__init__()
        self.model, self.x, self.y, self.p, self.limit = model, x, y, p, limit
        self.best: list[float] = []

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.x.dtype)
        out = self.model(x)
        size = norm(x - self.x, self.p).where(out.argmax(1) != self.y, torch.inf).tolist()
        for distance in size:
            self.best.append(min(distance, self.best[-1] if self.best else math.inf))
        if len(self.best) > self.limit:
            raise SpentError
        return out


Run: TypeAlias = Callable[[Meter, Tensor, Tensor, Tensor], None]
"""An attack on one image: the meter, the image, its label and the starting point."""


def foolbox_peer(make: Callable[[Any], Any]) -> Run:
    """A foolbox attack as a run on one image."""
    import foolbox

    def run(meter: Meter, x: Tensor, y: Tensor, start: Tensor) -> None:
        wrapped = foolbox.PyTorchModel(meter, bounds=(0, 1), device="cpu")
        make(foolbox.attacks).run(wrapped, x, foolbox.criteria.Misclassification(y), starting_points=start)

    return run


def art_peer(make: Callable[[Any, Any], Any], *, started: bool, probabilities: bool = False) -> Run:
    """An ART attack as a run on one image; one that wants `probabilities` is given them."""
    import numpy
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    numpy.mat = numpy.asmatrix  # ART 1.20's GeoDA asks for it by the name that NumPy 2 took away

    def run(meter: Meter, x: Tensor, y: Tensor, start: Tensor) -> None:
        classes = meter.model(x).shape[1]
        asked = nn.Sequential(meter, nn.Softmax(1)) if probabilities else meter
        wrapped = PyTorchClassifier(asked, nn.CrossEntropyLoss(), tuple(x.shape[1:]), classes, clip_values=(0, 1))
        how = {"x_adv_init": start.numpy()} if started else {}
        make(evasion, wrapped).generate(x=x.numpy(), y=y.numpy(), **how)

    return run


def torchattacks_peer(make: Callable[[Any, Any], Any]) -> Run:
    """An attack of torchattacks as a run on one image."""
    import torchattacks

    def run(meter: Meter, x: Tensor, y: Tensor, start: Tensor) -> None:
        make(torchattacks, meter)(x, y)

    return run


BOUNDED = {"Square", "SimBA", "OnePixel"}
"""The attacks whose distances mean nothing: they look inside eps, or stop once they succeed."""


def peers(p: float, eps: float, limit: int) -> dict[tuple[str, str], Run]:
    """The peers' attacks in this norm, under the name of ours."""
    size: Any = math.inf if p == math.inf else 2
    kind, norm_name = ("linf", "Linf") if p == math.inf else ("l2", "L2")
    if p == 0:
        # Its population is so many times the number of genes, of which a pixel has five.
        some = max(1, round(100 / (5 * int(eps))))
        one = torchattacks_peer(lambda t, m: t.OnePixel(m, pixels=int(eps), steps=limit, popsize=some, inf_batch=1))
        return {("OnePixel", "torchattacks"): one}
    both = {
        ("HopSkipJump", "foolbox"): foolbox_peer(lambda f: f.HopSkipJumpAttack(constraint=kind)),
        ("HopSkipJump", "art"): art_peer(
            lambda e, c: e.HopSkipJump(c, norm=size, max_iter=64, verbose=False), started=True
        ),
        ("GeoDA", "art"): art_peer(lambda e, c: e.GeoDA(c, norm=size, verbose=False), started=False),
        ("Square", "torchattacks"): torchattacks_peer(
            lambda t, m: t.Square(m, norm=norm_name, eps=eps, n_queries=limit, p_init=0.8)
        ),
        ("Square", "art"): art_peer(
            lambda e, c: e.SquareAttack(c, norm=size, eps=eps, max_iter=limit, p_init=0.8, verbose=False),
            started=False,
        ),
    }
    if p == math.inf:
        return both
    return both | {
        ("BoundaryAttack", "foolbox"): foolbox_peer(lambda f: f.BoundaryAttack()),
        ("SignOPT", "art"): art_peer(
            lambda e, c: e.SignOPTAttack(c, targeted=False, query_limit=10_000, verbose=False), started=False
        ),
        ("SimBA", "art"): art_peer(
            lambda e, c: e.SimBA(c, attack="px", max_iter=limit, epsilon=0.2, order="random", verbose=False),
            started=False,
            probabilities=True,
        ),
    }
