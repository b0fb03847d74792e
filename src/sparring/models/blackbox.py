"""Models that only answer: what such a model gives away, and how whatever it says becomes scores."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparring.errors import InputError, ModelError, kind_of
from sparring.models.factory import said

Gives: TypeAlias = Literal["scores", "decisions"]
"""What comes back: a number for several classes, or the winner's name alone."""
Kind: TypeAlias = Literal["logits", "probabilities", "labels"]
"""What the numbers of an answer are."""

SHY = 1e-3
"""By what share a class that was not named is less likely than the last that was."""
UNSEEN = 1e-37
"""The probability that stands for one that was rounded to zero, or was not said."""


class BlackBox(nn.Module, ABC):
    """A model without gradients. Whoever evaluates it lowers the attacker's access to what it gives."""

    levels: int | None = None
    """In how many steps from 0 to 1 a value arrives there, 255 for 8 bits; None where nothing is rounded."""

    @abstractmethod
    def meet(self, x: Tensor) -> Gives:
        """What it gives away, by its answer to one input, 1 × …"""

    def remembering(self, folder: Path) -> Self:
        """The same model, which keeps in this folder what it learns; itself where it has nothing to keep."""
        return self

    def troubles(self) -> tuple[bool, str]:
        """Whether all went well so far, and what happened, in one sentence; nothing where there is nothing to say."""
        return True, ""


@dataclass(frozen=True)
class Said:
    """What was said about n inputs, k things about each."""

    scores: Float[np.ndarray, "n k"] | None
    """None where only winners are named."""
    labels: Int[np.ndarray, "n k"] | None = None
    """The class that each score is of, best first, -1 where fewer than k were named; None: those from 0 to k-1."""

    def __len__(self) -> int:
        some = self.labels if self.scores is None else self.scores
        assert some is not None
        return len(some)

    @property
    def gives(self) -> Gives:
        return "decisions" if self.scores is None else "scores"


@dataclass(frozen=True)
class Reading:
    """How answers are read as logits, which every goal and loss understands."""

    kind: Kind
    classes: int

    def __call__(self, said: Said) -> Float[np.ndarray, "n k"]:
        """One row of logits an input: of probabilities the logarithm, of a winner alone 1 for it and -1 elsewhere.

        A class that a list of the best leaves out gets no more than the last that is on it: an equal share of what is
        missing from 1 where these are probabilities, or 1 less where they are logits. Raises ModelError where a class
        is named that there is not.
        """
        if said.labels is None:
            assert said.scores is not None
            self._expect(said.scores.shape[1])
            return self._logits(said.scores)
        n, top = said.labels.shape
        beyond = int(said.labels.max(initial=0))
        if beyond >= self.classes:
            raise ModelError(
                f"the model names class {beyond}, and has {self.classes} classes; say how many it has, as in "
                f"classes={beyond + 1}"
            )
        known = said.labels >= 0
        if said.scores is None:
            table = np.full((n, self.classes + 1), -1.0)
            table[np.arange(n), said.labels[:, 0]] = 1.0
            return table[:, :-1]
        scores = np.where(known, said.scores, np.inf)
        least = scores.min(1)
        if self.kind == "probabilities":
            left = np.clip(1 - np.where(known, said.scores, 0).sum(1), 0, 1) / max(self.classes - top, 1)
            rest = np.minimum(left, (1 - SHY) * least)  # below it, or the winner would not be known
        else:
            rest = least - 1.0
        table = np.repeat(rest[:, None], self.classes + 1, 1)
        np.put_along_axis(table, np.where(known, said.labels, self.classes), scores, 1)
        return self._logits(table[:, :-1])

    def _logits(self, scores: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        return np.log(np.clip(scores, UNSEEN, None)) if self.kind == "probabilities" else scores

    def _expect(self, count: int) -> None:
        if count != self.classes:
            raise ModelError(f"the model answered with {self.classes} scores an input before, and now with {count}")


def learn(first: Said, kind: Kind | None = None, classes: int | None = None) -> Reading:
    """How to read a model whose first answer this is; `kind` and `classes` are what the user said of it.

    Scores are probabilities where all lie in [0, 1] and each row sums to 1 (to at most 1, of a list of the best).
    Raises InputError where the number of classes must be said.
    """
    whole = first.labels is None
    if first.scores is not None and kind is None:
        total = np.nansum(first.scores, 1)
        inside = bool(((first.scores >= -1e-6) & (first.scores <= 1 + 1e-6) | np.isnan(first.scores)).all())
        sums = bool((total < 1 + 1e-3).all()) and (not whole or bool((total > 1 - 1e-2).all()))
        kind = "probabilities" if inside and sums else "logits"
    if whole:
        assert first.scores is not None
        classes = first.scores.shape[1]
    if classes is None:
        raise InputError("the model names classes and nothing says how many there are; say so, as in classes=10")
    return Reading(kind or "labels", classes)


class Function(BlackBox):
    """Any Python function as a model: it is given a numpy array, n × …, and may answer as it likes.

    That is one row of scores an input (logits or probabilities), or one class number an input, as an array, a tensor or
    a list. `classes` must be given where it names classes alone.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        classes: int | None = None,
        kind: Kind | None = None,
        tensors: bool = False,
    ):
        super().__init__()
        if isinstance(function, nn.Module) or not callable(function):
            raise InputError(f"the function is {kind_of(function)}; give a plain function of an array")
        self.function, self.classes, self.tensors = function, classes, tensors
        self.kind: Kind | None = kind
        self._reading: Reading | None = None
        self.eval()

    def meet(self, x: Tensor) -> Gives:
        said_ = self._ask(x)
        self._reading = self._reading or learn(said_, self.kind, self.classes)
        return said_.gives

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits, in float32; raises ModelError where the answer cannot be read as such."""
        answer = self._ask(x)
        self._reading = self._reading or learn(answer, self.kind, self.classes)
        return torch.from_numpy(self._reading(answer).astype(np.float32)).to(x.device)

    def extra_repr(self) -> str:
        """The function's name: two functions are two models."""
        named = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        return f"{getattr(self.function, '__module__', '')}:{named}, classes={self.classes}, kind={self.kind}"

    def _ask(self, x: Tensor) -> Said:
        given = x.detach() if self.tensors else x.detach().cpu().numpy()
        try:
            answer = self.function(given)
        except Exception as problem:
            raise ModelError(f"the function refused inputs of shape {tuple(x.shape)}: {said(problem)}") from problem
        return plain(answer, len(x))


def plain(answer: Any, count: int) -> Said:
    """Scores or class numbers, as a list, an array or a tensor; raises ModelError on anything else."""
    if isinstance(answer, Tensor):
        answer = answer.detach().cpu().numpy()
    try:
        table = np.asarray(answer)
    except (ValueError, TypeError):
        table = np.asarray(None)
    if table.ndim == 2 and table.shape[1] == 1 and table.dtype.kind in "iu":
        table = table[:, 0]
    if table.shape[:1] == (count,) and table.ndim == 1 and table.dtype.kind in "iu":
        return Said(None, table[:, None].astype(np.int64))
    if table.shape[:1] == (count,) and table.ndim == 2 and table.shape[1] > 1 and table.dtype.kind in "fiu":
        return Said(table.astype(np.float64))
    shape = f"{table.dtype} of shape {table.shape}" if table.dtype != object else type(answer).__name__
    raise ModelError(
        f"the model answers {count} inputs with {shape}; return a row of scores an input, or one class number each"
    )
