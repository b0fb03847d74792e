"""What is refused before a training begins."""

from torch import nn

from sparring.defend.augment import Augment
from sparring.errors import InputError, kind_of
from sparring.guest import switchable


def refuse(model: object, risk: object, augment: object) -> None:
    """Raise InputError where there is nothing to train, or nothing to train it by."""
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is {kind_of(model)}; give an nn.Module")
    if not any(weight.requires_grad for weight in model.parameters()):
        raise InputError("no parameter of the model asks for a gradient; call model.requires_grad_() first")
    if not switchable(model):
        raise InputError(
            "the model is an exported program, which has no training mode; train the module that it was exported from"
        )
    if isinstance(risk, type) or not callable(risk):
        seen = f"the class {risk.__name__}" if isinstance(risk, type) else repr(risk)
        raise InputError(f"the risk is {seen}; give one with its settings, such as Trades(PGD(10), 'linf:8/255')")
    if isinstance(augment, Augment):
        raise InputError(f"augment is {augment!r} alone; give a sequence, as in [{augment!r}]")
