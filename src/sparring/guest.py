"""A user's model is a guest: whatever is done to it for a while, it leaves as it came."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext, suppress

from torch import nn


@contextmanager
def modes_kept(model: nn.Module) -> Generator[None]:
    """Whatever is done to the modes of the model's parts, each ends in the one that it came with."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def settled(model: nn.Module) -> nn.Module:
    """The model in evaluation mode: by the marks of its parts, where it is an exported program and refuses `eval()`."""
    try:
        model.eval()  # a module of the user's own may do more there than set its mark
    except NotImplementedError:
        for module in model.modules():
            module.training = False
    return model


def switchable(model: nn.Module) -> bool:
    """Whether the model can be put into training mode; an exported program's mode was fixed when it was saved."""
    with modes_kept(model):
        try:
            model.train()
        except NotImplementedError:
            return False
    return True


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode in every part of the model, for a while."""
    training = model.training
    with modes_kept(model):
        settled(model)
        try:
            yield
        finally:
            if training:  # a module of the user's own may undo in train() what it did in eval()
                with suppress(NotImplementedError):
                    model.train()


@contextmanager
def frozen(model: object) -> Generator[None]:
    """Evaluation mode, and no parameter that asks for a gradient, for a while; a bare function is left alone."""
    parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
    flags = [parameter.requires_grad for parameter in parameters]
    with evaluating(model) if isinstance(model, nn.Module) else nullcontext():
        try:
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, flag in zip(parameters, flags, strict=True):
                parameter.requires_grad_(flag)
