"""One name for texts and tensors: whether two runs are of the same model, data and settings."""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

CHUNK = 1 << 24


def digest(tensors: Iterable[Tensor] | Mapping[str, Tensor], *texts: str) -> str:
    """SHA-256 over texts, the tensors' names where they have any, and their types, shapes and bytes; on any device."""
    names, values = ([*tensors], tensors.values()) if isinstance(tensors, Mapping) else ([], tensors)
    found = hashlib.sha256("\n".join([*texts, *names]).encode())
    for tensor in values:
        found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        for chunk in tensor.detach().contiguous().flatten().split(CHUNK):
            found.update(chunk.cpu().view(torch.uint8).numpy().tobytes() if len(chunk) else b"")
    return found.hexdigest()
