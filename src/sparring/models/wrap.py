"""Models around models: what a defence or a preprocessing adds, made part of what is attacked.

Every wrapper holds the model that it is given, never a copy, and leaves its mode, its buffers and its gradients alone.
A model may be any callable from inputs to logits; where it is a module, the wrapper's parameters are the module's.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from sparring.errors import InputError, ModelError
from sparring.models.generators import generators_kept

Model = Callable[[Tensor], Any]
"""Anything that maps a batch of inputs to one row of logits each."""
Mode = Literal["logits", "probabilities", "votes"]
"""How several answers become one."""


class Normalized(nn.Module):
    """A model behind (x - mean) / std, so that its inputs, and the attacker's box, are plain pixels in [0, 1].

    `mean` and `std` are in the units of the input: one number, or one a channel (axis 1). Raises InputError where they
    are not finite, where a std is not positive, and where their lengths do not fit each other or the inputs.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Model, mean: float | Sequence[float] | Tensor, std: float | Sequence[float] | Tensor):
        super().__init__()
        mean, std = (torch.as_tensor(value, dtype=torch.float32).reshape(-1) for value in (mean, std))
        if not (mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
            raise InputError(
                f"mean is {mean.tolist()} and std is {std.tolist()}; both must be finite, and std above zero"
            )
        if not len(mean) or not len(std) or len({len(mean), len(std)} - {1}) > 1:
            raise InputError(f"mean has {len(mean)} values and std has {len(std)}; give one, or one a channel")
        self.model = model
        self.register_buffer("mean", mean.clone(), persistent=False)
        self.register_buffer("std", std.clone(), persistent=False)
        self.training = _training(model)

    def forward(self, x: Tensor) -> Any:
        """The model's answer to the normalised inputs."""
        count = max(len(self.mean), len(self.std))
        if count > 1 and (x.ndim < 2 or x.shape[1] != count):
            raise InputError(
                f"inputs have shape {tuple(x.shape)}, and the normalisation has {count} channels on axis 1"
            )
        shape = (-1, *[1] * (x.ndim - 2))
        return self.model((x - self.mean.to(x).reshape(shape)) / self.std.to(x).reshape(shape))


class Ensemble(nn.Module):
    """Several models that answer as one.

    `mode` says how: the mean of the logits; the logarithm of the mean probability (its argmax is that of the mean
    probability, and it stays a logit); or the count of votes, which has no gradient: a vote is worth attacking by
    scores or decisions only, or through one of the other two modes.
    """

    def __init__(self, models: Iterable[Model], mode: Mode = "logits"):
        super().__init__()
        lone = isinstance(models, nn.Module) and not isinstance(models, nn.ModuleList)  # one may be iterable as well
        if lone or not isinstance(models, Iterable) or not isinstance(mode, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InputError("an ensemble takes its models as a list; give Ensemble([first, second])")
        self.members = tuple(models)
        self.mode: Mode = _known(mode)
        if not self.members:
            raise InputError("the ensemble has no members; give at least one model")
        modules = [model for model in self.members if isinstance(model, nn.Module)]
        self.modules_held = nn.ModuleList(modules)
        self.training = any(_training(model) for model in modules)

    def forward(self, x: Tensor) -> Tensor:
        """The members' common answer, in logits (votes: how many)."""
        return combine([member(x) for member in self.members], self.mode)


class Averaged(nn.Module):
    """The mean answer of a randomised model over `draws` forward passes: expectation over transformation.

    A model that draws random numbers (dropout at test time, noise, random resizing) must be attacked through the mean
    of its answers; a single draw gives an attack a gradient that the next draw contradicts, and a success that it does
    not confirm. Every call draws anew from `seed` and puts the generators back, so that the same batch gives the same
    answer and the global random state is untouched.

    Its limits: the default generators of torch (on the device of `x`), NumPy and Python are seeded; one of the model's
    own is not. Draws belong to a place in the batch, not to a sample, so that the same sample elsewhere in the
    batch is answered with other draws: take enough of them that this does not matter. An attack can fit the draws of
    one seed, so confirm what it found with another. A call costs `draws` forward passes, and a gradient holds all of
    them in memory. Not for torch.compile or CUDA graphs.

    Reference: Athalye, Engstrom, Ilyas & Kwok, "Synthesizing robust adversarial examples", ICML 2018,
    arXiv:1707.07397, section 2.1; Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of security",
    ICML 2018, arXiv:1802.00420, section 4.
    """

    def __init__(self, model: Model, draws: int, seed: int = 0, mode: Mode = "logits"):
        super().__init__()
        if draws < 1:
            raise InputError(f"draws is {draws}; it must be at least 1")
        self.model, self.draws, self.seed = model, draws, seed
        self.mode: Mode = _known(mode)
        self.training = _training(model)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the draws, as `mode` says (see Ensemble)."""
        with generators_kept(x.device, self.seed):
            return combine([self.model(x) for _ in range(self.draws)], self.mode)


class Cast(nn.Module):
    """A model of another precision, fed in its own and answering in float32; gradients pass through both casts."""

    def __init__(self, model: Model, dtype: torch.dtype):
        super().__init__()
        if not dtype.is_floating_point:
            raise InputError(f"dtype is {dtype}; a model is fed with floats, such as torch.bfloat16")
        self.model, self.dtype = model, dtype
        self.training = _training(model)

    def forward(self, x: Tensor) -> Any:
        """The model's answer, in float32 where it is a tensor."""
        out = self.model(x.to(self.dtype))
        return out.float() if isinstance(out, Tensor) else out


class OnlyLogits(nn.Module):
    """The `.logits` of a model that answers with a record, as Hugging Face models do."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model
        self.training = _training(model)

    def forward(self, x: Tensor) -> Tensor:
        """The logits alone; raises ModelError where the record has none."""
        logits = getattr(self.model(x), "logits", None)
        if not isinstance(logits, Tensor):
            raise ModelError("the model's answer has no tensor called logits; take OnlyLogits away, or return one")
        return logits


class TwoClasses(nn.Module):
    """A model with one output z, the log-odds of class 1, as a model of two classes: logits 0 and z."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model
        self.training = _training(model)

    def forward(self, x: Tensor) -> Tensor:
        """Two logits a row, whose softmax is the sigmoid of z."""
        z = self.model(x).reshape(len(x), 1)
        return torch.cat([torch.zeros_like(z), z], 1)


def combine(answers: Sequence[Tensor], mode: Mode) -> Tensor:
    """One answer from several of the same shape, as `Ensemble` describes."""
    if mode == "votes":
        votes = [one_hot(answer.argmax(1), answer.shape[1]) for answer in answers]
        return torch.stack(votes).sum(0).to(answers[0].dtype)
    if mode == "probabilities":
        likely = torch.stack([log_softmax(answer, 1) for answer in answers])
        return likely.logsumexp(0) - math.log(len(answers))
    return torch.stack(list(answers)).mean(0)


def _known(mode: Mode) -> Mode:
    """The mode, if there is such a one."""
    if mode not in ("logits", "probabilities", "votes"):
        raise InputError(f"mode is {mode!r}; known are 'logits', 'probabilities' and 'votes'")
    return mode


def _training(model: object) -> bool:
    """The mode of what is wrapped, so that `wrapper.train(wrapper.training)` changes nothing."""
    return isinstance(model, nn.Module) and model.training
