"""The code that makes a verdict again, where no command did."""

from collections.abc import Mapping

from torch import nn

from sparring import spec
from sparring.attack import Attack
from sparring.attacks import Generated, Sticker, Universal
from sparring.threat import ThreatModel


def rerun(threat: ThreatModel, plan: Mapping[str, Attack], seed: int) -> str:
    """What one would type. The model and the data are the reader's own, and so are other models that attacks hold.

    Weights have no code: attacks that were fitted are loaded from where `save` has put them.
    """
    fitted: dict[int, str] = {}
    models: dict[int, str] = {}

    def named(one: object) -> str | None:
        if isinstance(one, nn.Module):
            return models.setdefault(id(one), f"surrogate{len(models) + 1 if models else ''}")
        if not isinstance(one, Universal | Generated | Sticker):
            return None
        file = fitted.setdefault(id(one), f"fitted-{len(fitted) + 1}.safetensors")
        reads = isinstance(one, Generated) and one.features is not None
        return f"{type(one).__name__}.load({file!r}{', features=features' if reads else ''})"

    attacks = "".join(f"    {name!r}: {spec.code(attack, named)},\n" for name, attack in plan.items())
    needed = "\n".join(["import sparring", *spec.imports(threat, plan, words=named)])
    said = [f"# {file}: what the method save of the fitted attack wrote" for file in fitted.values()]
    said += [f"# {', '.join(models.values())}: your own, as the model and the data are"] if models else []
    notes = "".join(f"{line}\n" for line in said)
    return (
        f"{needed}\n\n{notes}threat = {spec.code(threat, named)}\nplan = {{\n{attacks}}}\n"
        f"verdict = sparring.evaluate(model, data, threat, plan=plan, seed={seed})"
    )
