"""One name for texts and tensors: whether two runs are of the same model, data and settings."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

CHUNK = 1 << 24


def digest(tensors: Iterable[Tensor], *texts: str) -> str:
    """SHA-256 over texts and over types, shapes and bytes of tensors, on any device."""
    found = hashlib.sha256("\n".join(texts).encode())
    for tensor in tensors:
        found.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        for chunk in tensor.detach().contiguous().flatten().split(CHUNK):
            found.update(chunk.cpu().view(torch.uint8).numpy().data if len(chunk) else b"")
    return found.hexdigest()
