"""What can go wrong.

SparringError
├── AccessError    an attack needs to see more than the threat model grants
├── InputError     inputs, labels, eps, a norm or a name that does not fit
├── ModelError     a model that cannot be loaded, or whose answers cannot be judged
│   └── AbsentError    the file of a model that is not there: an InputError as well
├── SpecError      settings that cannot be written as JSON, or read back from it
├── StoreError     a store that is corrupt, foreign, of another plan, or cannot be written
└── MissingExtraError   an optional package that is not installed
"""


class SparringError(Exception):
    """Base of every error that this library raises on purpose; its text is one sentence for the user."""


class AccessError(SparringError):
    """An attack needs to see more than the threat model grants."""


class InputError(SparringError, ValueError):
    """Inputs, labels, eps, a norm or a name that does not fit."""


class ModelError(SparringError):
    """A model that cannot be loaded, or whose answers cannot be judged."""


class AbsentError(ModelError, InputError):
    """The file of a model, or of a function, that is not there: what was asked for makes no sense."""


class SpecError(SparringError, ValueError):
    """Settings that cannot be written as JSON, or read back from it."""


class StoreError(SparringError):
    """A store that is corrupt, foreign, of another plan, or cannot be written."""


class MissingExtraError(SparringError, ImportError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str):
        super().__init__(f"{package} is not installed; it comes with: pip install 'sparring[{extra}]'")


def kind_of(thing: object) -> str:
    """What a thing is, for a message: its type with the article, as in `an int`; None is `None`."""
    name = type(thing).__name__
    article = "an" if name[0] in "aeioAEIO" or name == "ndarray" else "a"
    return "None" if thing is None else f"{article} {name}"
