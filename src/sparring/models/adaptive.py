"""Modules around a defended model that make every attack adaptive: they change gradients, or add outputs.

What the model answers stays what it was: success is judged by the defence as it runs, never by its surrogate.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from sparring.errors import InputError, ModelError
from sparring.models.wrap import Model

Step = Callable[[Tensor], Tensor]


class BPDA(nn.Module):
    """The values of `forward`, which need no gradient, with the gradient of `backward`, which stands in for it.

    In front of a model, `nn.Sequential(BPDA(clean), model)` attacks any preprocessing, whether it rounds, sorts, calls
    another library or draws at random; around one, `BPDA(votes, mean)` attacks a decision that has no slope. The
    surrogate is the identity where none is given: a preprocessing gives back about what it gets. Both must answer with
    the same shape; they are asked once each.

    Reference: Athalye, Carlini & Wagner, "Obfuscated gradients give a false sense of security", ICML 2018,
    arXiv:1802.00420, section 4.1 (backward pass differentiable approximation).
    """

    def __init__(self, forward: Step, backward: Step | None = None):
        super().__init__()
        self.value, self.surrogate = forward, backward

    def forward(self, x: Tensor) -> Tensor:
        """What `forward` answers, to the bit."""
        with torch.no_grad():
            value = self.value(x.detach())
        if not (torch.is_grad_enabled() and x.requires_grad):
            return value
        stand_in = x if self.surrogate is None else self.surrogate(x)
        if stand_in.shape != value.shape:
            shapes = f"{tuple(stand_in.shape)} for {tuple(value.shape)}"
            raise InputError(f"the surrogate answers with shape {shapes}; give a `backward` that fits")
        return value + (stand_in - stand_in.detach()).nan_to_num(0, 0, 0)


class Votes(nn.Module):
    """The count of votes of several models, with the gradient of votes that are only nearly cast.

    Each member votes for its winner, and in the backward pass for every class with its softmax. The answers are those
    of `Ensemble(models, "votes")`. For the votes of one random model, write `Votes([model] * draws)`.
    """

    def __init__(self, models: Iterable[Model], temperature: float = 1.0):
        super().__init__()
        self.members = tuple(models)
        if not self.members or temperature <= 0:
            raise InputError(f"{len(self.members)} members and temperature {temperature}; both must be above 0")
        self.modules_held = nn.ModuleList(member for member in self.members if isinstance(member, nn.Module))
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """How many members vote for each class."""
        return torch.stack([self._vote(member(x)) for member in self.members]).sum(0)

    def _vote(self, logits: Tensor) -> Tensor:
        likely = (logits / self.temperature).softmax(1)
        vote = torch.zeros_like(likely).scatter(1, logits.argmax(1, keepdim=True), 1.0)
        return vote + (likely - likely.detach())


class Guarded(nn.Module):
    """A model and the detector beside it, as a model of one class more: its last logit wins where it rejects.

    The detector answers one number a sample, above 0 where it rejects; `threshold` is taken off first. Added to the
    highest logit it is the logit of the class "rejected", so that argmax is the whole's answer. Its goal is
    `Unrejected`; to `Untargeted`, a rejected input counts as a broken one.

    Reference: Carlini & Wagner, "Adversarial examples are not easily detected: bypassing ten detection methods", AISec
    2017, arXiv:1705.07263, section 3 (there the highest logit is multiplied, which asks that it be above 0).
    """

    def __init__(self, model: Model, detector: Callable[[Tensor], Tensor], threshold: float = 0.0):
        super().__init__()
        self.model, self.detector, self.threshold = model, detector, threshold

    def forward(self, x: Tensor) -> Tensor:
        """n × (classes + 1)."""
        logits, score = self.model(x), self.detector(x) - self.threshold
        rejected = logits.amax(1, keepdim=True) + score.reshape(len(x), 1).to(logits.dtype)
        return torch.cat([logits, rejected], 1)


class Featured(nn.Module):
    """A model that also gives away what one of its layers computes: its logits, then that layer's output, flattened.

    Its goal is `Leading(classes, …)`, which reads the logits alone. Raises ModelError where the layer is not used.
    """

    def __init__(self, model: nn.Module, layer: str):
        super().__init__()
        self.model, self.layer = model, layer
        try:
            model.get_submodule(layer)
        except AttributeError:
            names = ", ".join(name for name, _ in model.named_modules() if name)
            raise InputError(f"the model has no layer {layer!r}; it has {names}") from None

    def forward(self, x: Tensor) -> Tensor:
        """n × (classes + features)."""
        kept: list[Tensor] = []

        def keep(_: nn.Module, __: object, out: Tensor) -> None:
            kept.append(out)

        handle = self.model.get_submodule(self.layer).register_forward_hook(keep)
        try:
            logits = self.model(x)
        finally:
            handle.remove()
        if not kept:
            raise ModelError(f"the layer {self.layer!r} takes no part in the model's answer; name another")
        return torch.cat([logits, kept[-1].flatten(1)], 1)
