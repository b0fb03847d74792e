"""A model from its name.

    file.py:factory   package.module:factory     a callable that returns the model
    file.pt2                                     a program that torch.export saved
    file.pt, file.ts                             a TorchScript program
    file.onnx                                    a graph of ONNX
    http://HOST:PORT/v2/models/NAME              a model behind an address, which only answers; ?rate=50&queries=10000
    file.yaml                                    a service with a shape of its own, as docs/endpoints.md says
    NAME@FILE.safetensors                        any of these that is a module, with the weights in that file
    timm:NAME   torchvision:NAME   hf:NAME       a published model; ?pretrained=no, &classes=10, &weights=FILE

Code runs only because the user named it as the model: a Python file, or one of the two archives, which are programs.
A file of weights alone is never unpickled as anything else.
"""

import warnings
import zipfile
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import nn

from sparring.errors import AbsentError, ModelError, kind_of
from sparring.guest import settled
from sparring.models.endpoint import load_endpoint
from sparring.models.factory import build, said
from sparring.models.hubs import HUBS, load_hub
from sparring.models.loaded import LoadedModel
from sparring.models.onnx import load_onnx
from sparring.models.weights import put_weights
from sparring.models.wrap import Model

WEIGHTS = {".safetensors", ".pt", ".pth"}
ARCHIVES = {".pt2", ".pt", ".pth", ".ts", ".torchscript", ".ckpt", ".bin", ".safetensors"}


def load(name: str | PurePath, *, gradients: bool = True) -> LoadedModel:
    """The model of that name, in evaluation mode and on the CPU, with what its images want.

    An ONNX model is converted to torch, unless no `gradients` are wanted of it: then onnxruntime runs it.

    Raises ModelError where the name says nothing, the file is missing or is no program, the user's code fails (with
    the line), or what it returns is not a model; MissingExtraError where the package of a prefix is not installed.
    """
    name = str(name)
    base, _, weights = name.rpartition("@")
    if base and Path(weights).suffix in WEIGHTS:
        return _weighted(load(base, gradients=gradients), Path(weights))
    if ".py:" in base and weights:
        known = ", ".join(sorted(WEIGHTS))
        raise ModelError(f"the weights of {base} are in {weights}, which is no file of weights; known are {known}")
    path = Path(name)
    if name.startswith(("http://", "https://")) or path.suffix in (".yaml", ".yml"):
        return load_endpoint(name)
    if path.suffix == ".onnx" or name.startswith("onnx:"):
        return load_onnx(name, gradients=gradients)
    if name.partition(":")[0] in HUBS:
        return load_hub(name)
    if path.suffix in ARCHIVES:
        return _archive(path)
    if "://" in name:
        raise ModelError(
            f"the model's address begins with {name.partition('://')[0]}://; an endpoint's begins with http:// or https://"
        )
    if ":" in name:
        made = build(name)
        return made if isinstance(made, LoadedModel) else LoadedModel(_ready(made, name), name)
    if path.suffix == ".py":
        raise ModelError(f"{name} names a file and no function; write {name}:factory")
    raise ModelError(
        f"{name!r} names no model; give file.py:factory, package.module:factory, a .pt2 or TorchScript file, or a name "
        f"after {', '.join(hub + ':' for hub in HUBS)}"
    )


def _weighted(loaded: LoadedModel, path: Path) -> LoadedModel:
    """The model with the weights in a file."""
    if not isinstance(loaded.model, nn.Module):
        raise ModelError(f"{loaded.description} is no module, and takes no weights from {path.name}")
    put_weights(loaded.model, path)
    return replace(loaded, description=f"{loaded.description} with {path.name}")


def _ready(made: Any, name: str) -> Model:
    """What a factory returned, if it is a model; a module in evaluation mode."""
    if isinstance(made, nn.Module):
        return settled(made)
    if isinstance(made, type):
        raise ModelError(f"{name} returned the class {made.__name__}; return a model, {made.__name__}()")
    if not callable(made):
        raise ModelError(f"{name} returned {kind_of(made)}; return an nn.Module that maps inputs to logits")
    return made


def _archive(path: Path) -> LoadedModel:
    """The program in a file, by what the file holds rather than by what it is called."""
    if not path.is_file():
        raise AbsentError(f"there is no model file {path}")
    members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if any(member.endswith("/constants.pkl") for member in members):
        return LoadedModel(_script(path), f"TorchScript {path.name}")
    if any(member.endswith("archive_format") for member in members):
        return LoadedModel(_exported(path), f"exported program {path.name}")
    if path.suffix == ".safetensors" or any(member.endswith("/data.pkl") for member in members):
        behind = f", or file.py:factory@{path.name} where it does not load them" if path.suffix in WEIGHTS else ""
        raise ModelError(
            f"{path.name} holds weights only, no code; give file.py:factory, a function that builds the model and "
            f"loads them{behind}"
        )
    raise ModelError(f"{path.name} is neither an exported program nor TorchScript; give file.py:factory")


def _script(path: Path) -> nn.Module:
    """A TorchScript program, in evaluation mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have a .pt2; whoever holds this file may not have one
        try:
            return torch.jit.load(path, map_location="cpu").eval()
        except (RuntimeError, ValueError) as problem:
            raise ModelError(f"the TorchScript in {path.name} cannot be loaded: {said(problem)}") from problem


def _exported(path: Path) -> nn.Module:
    """A program that torch.export saved. Its mode was fixed when it was saved, and its batch size must not be."""
    try:
        program = torch.export.load(path)
        inputs = set(program.graph_signature.user_inputs)
        shapes = [
            node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs
        ]
        model = program.module()
    except Exception as problem:
        raise ModelError(f"the exported program in {path.name} cannot be loaded: {said(problem)}") from problem
    if len(shapes) != 1:
        raise ModelError(f"{path.name} takes {len(shapes)} inputs; export a model of one, the images")
    if isinstance(shapes[0][0], int):
        raise ModelError(
            f"{path.name} was exported for batches of exactly {shapes[0][0]}; export it with "
            f"dynamic_shapes=({{0: torch.export.Dim('n')}},)"
        )
    return model
