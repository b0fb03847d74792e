"""The peers' attacks by decisions and scores, asked through a meter, one image at a time."""

import contextlib
import math
import tempfile
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from sparring.spaces import L0, Ball, Linf


class SpentError(Exception):
    """The budget is used up."""


class Meter(nn.Module):
    """Counts the rows that it is asked about, and notes how near the nearest adversarial one is after each."""

    def __init__(self, model: nn.Module, x: Tensor, y: int, space: Ball, limit: int):
        super().__init__()
        self.model, self.x, self.y, self.space, self.limit = model, x, y, space, limit
        self.best: list[float] = []

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.x.dtype)
        out = self.model(x)
        delta = x - self.x
        if isinstance(self.space, L0):  # what rounding leaves of a pixel's way to 255 and back changes nothing
            delta = delta.where(delta.abs() > 1e-6, 0.0)
        size = self.space.distance(self.x.expand_as(x), delta).where(out.argmax(1) != self.y, torch.inf)
        for distance in size.tolist():
            self.best.append(min(distance, self.best[-1] if self.best else math.inf))
        if len(self.best) > self.limit:
            raise SpentError
        return out


Run: TypeAlias = Callable[[Meter, Tensor, Tensor, Tensor], None]
"""An attack on one image: the meter, the image, its label and the starting point."""


def foolbox_peer(make: Callable[[Any], Any], eps: float | None = None) -> Run:
    """A foolbox attack as a run on one image: from the starting point, or with an eps at the likeliest wrong class."""
    import foolbox

    def run(meter: Meter, x: Tensor, y: Tensor, start: Tensor) -> None:
        wrapped = foolbox.PyTorchModel(meter, bounds=(0, 1), device="cpu")
        if eps is None:
            make(foolbox.attacks).run(wrapped, x, foolbox.criteria.Misclassification(y), starting_points=start)
        else:
            rival = meter.model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
            make(foolbox.attacks).run(wrapped, x, foolbox.criteria.TargetedMisclassification(rival), epsilon=eps)

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
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # its GeoDA leaves a file behind
            make(evasion, wrapped).generate(x=x.numpy(), y=numpy.eye(classes)[y.numpy()], **how)

    return run


def torchattacks_peer(make: Callable[[Any, Any], Any]) -> Run:
    """An attack of torchattacks as a run on one image."""
    import torchattacks

    def run(meter: Meter, x: Tensor, y: Tensor, start: Tensor) -> None:
        make(torchattacks, meter)(x, y)

    return run


def looking(attack: Any, meter: Meter) -> Any:
    """SPSA of torchattacks, which never asks about its own iterates: each is asked about, and counted."""
    clamp = attack.linf_clamp_

    def clamped(dx: Tensor, x: Tensor, eps: float) -> Tensor:
        dx = clamp(dx, x, eps)
        meter(x + dx)
        return dx

    attack.linf_clamp_ = clamped
    return attack


BOUNDED = {
    "Square",
    "SignHunter",
    "NES",
    "SPSA",
    "Bandits",
    "NAttack",
    "GenAttack",
    "SimBA",
    "Parsimonious",
    "OnePixel",
    "SparseRS",
}
"""The attacks whose distances mean nothing: they look inside eps, or stop once they succeed."""


def peers(space: Ball, limit: int) -> dict[tuple[str, str], Run]:
    """The peers' attacks in this norm, under the name of ours."""
    eps: Any = space.eps
    if isinstance(space, L0):
        return _pixels(int(eps), limit)
    linf = isinstance(space, Linf)
    size: Any = math.inf if linf else 2
    kind, norm_name = ("linf", "Linf") if linf else ("l2", "L2")
    both = {
        ("HopSkipJump", "foolbox"): foolbox_peer(lambda f: f.HopSkipJumpAttack(constraint=kind)),
        ("HopSkipJump", "art"): art_peer(
            lambda e, c: e.HopSkipJump(c, norm=size, max_iter=64, verbose=False), started=True
        ),
        ("GeoDA", "art"): art_peer(
            lambda e, c: e.GeoDA(c, norm=size, max_iter=limit - 100, verbose=False), started=False
        ),
        ("Square", "torchattacks"): torchattacks_peer(
            lambda t, m: t.Square(
                m, norm=norm_name, eps=eps, n_queries=limit, p_init=0.8, seed=int(torch.initial_seed())
            )
        ),
        ("Square", "art"): art_peer(
            lambda e, c: e.SquareAttack(c, norm=size, eps=eps, max_iter=limit, p_init=0.8, verbose=False),
            started=False,
        ),
    }
    if linf:
        return both | {
            ("GenAttack", "foolbox"): foolbox_peer(lambda f: f.GenAttack(steps=limit // 6, population=6), eps=eps),
            ("SPSA", "torchattacks"): torchattacks_peer(
                lambda t, m: looking(t.SPSA(m, eps=eps, nb_iter=limit // 256, nb_sample=128, max_batch_size=128), m)
            ),
        }
    return both | {
        ("BoundaryAttack", "foolbox"): foolbox_peer(lambda f: f.BoundaryAttack()),
        ("BoundaryAttack", "art"): art_peer(
            lambda e, c: e.BoundaryAttack(c, targeted=False, verbose=False), started=True
        ),
        ("SignOPT", "art"): art_peer(
            lambda e, c: e.SignOPTAttack(c, targeted=False, query_limit=10_000, verbose=False), started=False
        ),
        ("SimBA", "art"): art_peer(
            lambda e, c: e.SimBA(c, attack="px", max_iter=limit, epsilon=0.2, order="random", verbose=False),
            started=False,
            probabilities=True,
        ),
        ("ZOO", "art"): art_peer(
            lambda e, c: e.ZooAttack(
                c,
                learning_rate=0.1,
                max_iter=limit,
                initial_const=10.0,
                use_resize=False,
                use_importance=False,
                nb_parallel=128,
                batch_size=256,
                abort_early=False,
                verbose=False,
            ),
            started=False,
        ),
    }


def _pixels(count: int, limit: int) -> dict[tuple[str, str], Run]:
    """Those that change so many pixels, with populations of a hundred or, in ART, of its own four hundred."""
    some = max(1, round(100 / (5 * count)))  # so many times the number of genes, of which a pixel has five
    return {
        ("OnePixel", "torchattacks"): torchattacks_peer(
            lambda t, m: t.OnePixel(m, pixels=count, steps=limit, popsize=some, inf_batch=1)
        ),
        ("OnePixel", "art"): art_peer(
            lambda e, c: e.PixelAttack(c, th=count, es=1, max_iter=limit // 300), started=False, probabilities=True
        ),
        ("Pointwise", "foolbox"): foolbox_peer(lambda f: f.PointwiseAttack(l2_binary_search=False)),
    }
