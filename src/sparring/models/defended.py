"""What a defence that is part of a model says of itself, so that an evaluation can say how it was attacked."""

from abc import ABC, abstractmethod
from typing import NamedTuple, final

from torch import nn


class Account(NamedTuple):
    """Three half-sentences about a defence, as a report puts them together."""

    does: str
    """What the model does with it, as in "rounds its inputs to 3 bits"."""
    attacked: str
    """How attacks get through, as in "attacks take the gradient of no rounding (BPDA)"."""
    reference: str
    """Who showed that this is the way to attack it: authors, year and arXiv id."""


class Defence(nn.Module, ABC):
    """A module that stands in a model against attacks. Whatever it answers, its gradient is one that attacks can use.

    So a model that holds one is attacked adaptively by every attack of this library, wherever in the model it stands.
    An attack that shall know nothing of it is made on the model without it, and its results are shown to the whole.
    """

    @property
    @abstractmethod
    def account(self) -> Account:
        """What it does, and how it is attacked."""

    @final
    def extra_repr(self) -> str:
        """What it does: settings are part of what tells two models apart."""
        return self.account.does


def accounts(model: object) -> list[Account]:
    """What the defences in a model say of themselves, each once, from the outside in."""
    held = model.modules() if isinstance(model, nn.Module) else ()
    return list(dict.fromkeys(part.account for part in held if isinstance(part, Defence)))
