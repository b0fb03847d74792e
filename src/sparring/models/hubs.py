"""Models of timm, torchvision and Hugging Face by name: `timm:resnet18`, `torchvision:resnet18?pretrained=no`.

Their normalisation goes inside the model, so that its inputs are pixels in [0, 1]; their resize and crop go to
the data.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from sparring.errors import ModelError, SparringError
from sparring.models.factory import optional, said
from sparring.models.loaded import INTERPOLATIONS, LoadedModel, Resize
from sparring.models.weights import put_weights
from sparring.models.wrap import Normalized, OnlyLogits


@dataclass(frozen=True)
class Options:
    """What may follow a name, as in `timm:resnet18?pretrained=no&classes=10`."""

    pretrained: bool = True
    """Whether to fetch the published weights (`yes` or `no`)."""
    classes: int | None = None
    """How many classes, where that is not the published number."""
    weights: str | None = None
    """A file of one's own weights instead, `.safetensors` or a `.pt` that torch reads with weights_only."""


def load_hub(name: str) -> LoadedModel:
    """The model of a prefixed name, in evaluation mode.

    Raises ModelError where there is no such model or its weights cannot be had, and MissingExtraError where the
    package is not installed.
    """
    hub, _, rest = name.partition(":")
    rest, _, query = rest.partition("?")
    options = _options(name, query)
    if not rest:
        raise ModelError(f"{name!r} names no model; write {hub}:NAME")
    return HUBS[hub](rest, options)


def _timm(name: str, options: Options) -> LoadedModel:
    timm = optional("timm", "vision")
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models())
    sizes = {} if options.classes is None else {"num_classes": options.classes}
    net: Any = _made("timm", name, options, lambda fetch: timm.create_model(name, pretrained=fetch, **sizes))
    config = timm.data.resolve_model_data_config(net)
    height, width = config["input_size"][1:]
    part, mode, kind = config["crop_pct"], config["crop_mode"], config["interpolation"]
    scaled = math.floor(height / part), math.floor(width / part)
    resize = None
    if kind in INTERPOLATIONS and (mode == "squash" or (mode == "center" and height == width)):
        resize = Resize(scaled if mode == "squash" else scaled[0], (height, width), kind)
    subset = timm.data.infer_imagenet_subset(net)
    classes = tuple(timm.data.ImageNetInfo(subset).label_names()) if subset and options.classes is None else None
    licence = (net.pretrained_cfg or {}).get("license")
    text = _description("timm", name, options) + (f", {licence}" if licence else "")
    return LoadedModel(Normalized(net, config["mean"], config["std"]).eval(), text, resize, classes)


def _torchvision(name: str, options: Options) -> LoadedModel:
    models = optional("torchvision", "vision").models
    if name not in models.list_models(module=models):
        raise _unknown("torchvision", name, models.list_models(module=models))
    published = models.get_model_weights(name).DEFAULT
    preset = published.transforms()
    categories = published.meta.get("categories", ())
    sizes = {} if options.classes is None else {"num_classes": options.classes}

    def make(fetch: bool) -> nn.Module:
        if not fetch:
            return models.get_model(name, weights=None, **sizes)
        published.get_state_dict(check_hash=True, weights_only=True, map_location="cpu")  # refuses a file with code
        return models.get_model(name, weights=published)

    net = _made("torchvision", name, options, make)
    side = int(preset.crop_size[0])
    resize = Resize(int(preset.resize_size[0]), (side, side), preset.interpolation.value)
    classes = tuple(categories) if options.classes in (None, len(categories)) and categories else None
    text = _description("torchvision", name, options, published.name)
    return LoadedModel(Normalized(net, preset.mean, preset.std).eval(), text, resize, classes)


def _huggingface(name: str, options: Options) -> LoadedModel:
    transformers = optional("transformers", "hub")
    sizes: dict[str, Any] = {} if options.classes is None else {"num_labels": options.classes}

    def make(fetch: bool) -> nn.Module:
        maker = transformers.AutoModelForImageClassification
        if fetch:
            return maker.from_pretrained(name, trust_remote_code=False)
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **sizes)
        return maker.from_config(config, trust_remote_code=False)

    net: Any = _made("hf", name, options, make)
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except Exception as problem:
        raise _unfetched("hf", name, problem, "its image processor") from problem
    settings: dict[str, Any] = processor.to_dict()
    if settings.get("do_flip_channel_order"):
        raise ModelError(f"hf:{name} takes its channels in reverse; wrap it yourself, and give file.py:factory")
    classes: tuple[str, ...] | None = tuple(name for _, name in sorted((net.config.id2label or {}).items()))
    if options.classes not in (None, len(classes)) or all(name.startswith("LABEL_") for name in classes):
        classes = None  # placeholders, or of another head
    inside = Normalized(OnlyLogits(net), *_statistics(settings))
    return LoadedModel(inside.eval(), _description("hf", name, options), _resize(settings), classes)


HUBS: dict[str, Callable[[str, Options], LoadedModel]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "hf": _huggingface,
}


def _made(hub: str, name: str, options: Options, make: Callable[[bool], nn.Module]) -> nn.Module:
    """The bare network, with the weights that were asked for."""
    fetch = options.pretrained and options.weights is None
    if fetch and options.classes is not None:
        raise ModelError(
            f"{hub}:{name} with classes={options.classes} has an untrained head; add weights=FILE or pretrained=no"
        )
    try:
        net = make(fetch)
    except SparringError:
        raise
    except Exception as problem:
        if fetch:
            raise _unfetched(hub, name, problem, "the published weights") from problem
        raise ModelError(f"{hub}:{name} cannot be built: {said(problem)}") from problem
    if options.weights is not None:
        put_weights(net, Path(options.weights))
    return net


def _unfetched(hub: str, name: str, problem: Exception, what: str) -> ModelError:
    """What to say where something has to come from the network, and does not."""
    return ModelError(
        f"{what} of {hub}:{name} could not be had ({said(problem)}); go online once, give "
        f"{hub}:{name}?weights=FILE, or take random ones with {hub}:{name}?pretrained=no"
    )


def _unknown(hub: str, name: str, known: Sequence[str]) -> ModelError:
    near = get_close_matches(name, known, 3) or [model for model in known if name in model][:3]
    return ModelError(f"{hub} has no classifier {name!r}" + (f"; near it are {', '.join(near)}" if near else ""))


def _options(name: str, query: str) -> Options:
    """The options after the question mark; raises ModelError on one that is unknown or has no such value."""
    given: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, _, value = part.partition("=")
        given[key] = value
    unknown = sorted(set(given) - {"pretrained", "classes", "weights"})
    if unknown:
        raise ModelError(f"unknown option {unknown[0]!r} in {name!r}; known are pretrained, classes and weights")
    yes = {"yes": True, "1": True, "true": True, "no": False, "0": False, "false": False}
    pretrained, classes = given.get("pretrained", "yes").lower(), given.get("classes")
    if pretrained not in yes:
        raise ModelError(f"pretrained is {pretrained!r} in {name!r}; write yes or no")
    if classes is not None and not (classes.isdecimal() and int(classes) >= 2):
        raise ModelError(f"classes is {classes!r} in {name!r}; write a number of at least 2")
    return Options(yes[pretrained], None if classes is None else int(classes), given.get("weights"))


def _description(hub: str, name: str, options: Options, published: str = "") -> str:
    """Where a network came from, in a line."""
    if options.weights is not None:
        return f"{hub} {name} with weights from {Path(options.weights).name}"
    if not options.pretrained:
        return f"{hub} {name} with random weights"
    return f"{hub} {name}" + (f" ({published})" if published else "")


def _statistics(settings: dict[str, Any]) -> tuple[Any, Any]:
    """Mean and std for pixels in [0, 1], from a processor that starts from 0 … 255."""
    scale = 255 * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 255.0
    mean, std = [0.0], [1.0]
    if settings.get("do_normalize", True):
        mean, std = (_listed(settings[key]) for key in ("image_mean", "image_std"))
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    return [(value + offset) / scale for value in mean], [value / scale for value in std]


def _listed(value: float | Sequence[float]) -> list[float]:
    return [float(value)] if isinstance(value, int | float) else [float(v) for v in value]


def _resize(settings: dict[str, Any]) -> Resize | None:
    """The resize and crop of an image processor; None where it has none that this knows."""
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    kind = INTERPOLATIONS_BY_NUMBER.get(int(settings.get("resample", 2)))
    square = (crop["height"], crop["width"]) if settings.get("do_center_crop") and "height" in crop else None
    if not settings.get("do_resize", True) or kind is None:
        return None
    if "height" in size:
        return Resize((size["height"], size["width"]), square, kind)
    if "shortest_edge" not in size:
        return None
    edge = int(size["shortest_edge"])
    part = settings.get("crop_pct")
    if part and edge < 384:  # ConvNeXT's own rule: below 384 the middle is cut out of something larger
        return Resize(int(edge / part), (edge, edge), kind)
    return Resize((edge, edge), None, kind) if part else Resize(edge, square, kind)


INTERPOLATIONS_BY_NUMBER = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers, which image processors store."""
