"""Samples from image files, with Pillow."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from math import prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sparring.data.samples import Samples, check_memory
from sparring.errors import InputError
from sparring.models.factory import said
from sparring.models.loaded import Resize

ENDINGS = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"}
GREY = ("1", "L", "LA")


def read_folder(folder: Path, resize: Resize | None, limit: int | None, classes: Sequence[str] | None) -> Samples:
    """The images in the folders of a folder, one for each class.

    Labels count the folders in the order of their names, or are the model's own where `classes` holds those names. The
    classes take turns: the first image of each, then the second, so that any `limit` is a fair sample. Where nothing
    resizes them the images must have one size. They are grey if all of them are and `resize` allows it, otherwise RGB.
    """
    files, y, names = _listed(folder, classes)
    files, y = files[:limit], y[:limit]
    grey = (resize is None or resize.grey) and all(_mode(file) in GREY for file in files)
    first = read_image(files[0], resize, grey=grey)
    check_memory(len(files), prod(first.shape), str(folder))
    x = first.new_empty(len(files), *first.shape)
    for i, file in enumerate(files):
        image = read_image(file, resize, grey=grey)
        if image.shape != first.shape:
            raise InputError(
                f"{file} has {image.shape[1]}×{image.shape[2]} pixels and {files[0].name} {first.shape[1]}×"
                f"{first.shape[2]}; give images of one size, or a Resize"
            )
        x[i] = image
    return Samples(x, torch.tensor(y), torch.arange(len(x)), names)


def read_image(file: Path, resize: Resize | None = None, *, grey: bool = False) -> Tensor:
    """An image file as c × h × w in [0, 1]; raises InputError where it cannot be read."""
    try:
        with Image.open(file) as image:
            return pixels(image, resize, grey=grey)
    except InputError as problem:
        raise InputError(f"{file}: {problem}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise InputError(f"the image {file} cannot be read: {said(problem)}") from problem


def pixels(image: Image.Image, resize: Resize | None = None, *, grey: bool = False) -> Tensor:
    """An image as c × h × w in [0, 1], scaled and cropped where its size is not yet right."""
    if image.mode[0] in "IF":
        raise InputError(f"an image of mode {image.mode} has more than 8 bits a pixel; convert it to 8 bits")
    image = image.convert("L" if grey else "RGB")
    if resize is not None and not resize.fits(image.height, image.width):
        height, width = resize.scaled(image.height, image.width)
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), Image.Resampling[resize.interpolation.upper()])
        if resize.crop is not None:
            top, left = resize.corner(height, width)
            image = image.crop((left, top, left + resize.crop[1], top + resize.crop[0]))
    array = np.array(image)
    return torch.from_numpy(array[None] if grey else array.transpose(2, 0, 1)).float() / 255


def _listed(folder: Path, classes: Sequence[str] | None) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """The files, with the classes taking turns, their labels, and the names that the labels stand for."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(f"{folder} has no folders in it; put the images of each class into a folder of its own")
    names = tuple(path.name for path in folders)
    if classes is not None and set(names) <= set(classes):
        names = tuple(classes)
    elif classes is not None and len(names) != len(classes):
        raise InputError(
            f"{folder} has {len(names)} folders (first: {names[0]}) and the model {len(classes)} classes (first: "
            f"{classes[0]}), so that labels cannot be told; name each folder as the model names its class"
        )
    columns: list[list[tuple[Path, int]]] = []
    for path in folders:
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        if not files:
            raise InputError(f"the folder {path} holds no images; known endings are {', '.join(sorted(ENDINGS))}")
        columns.append([(file, names.index(path.name)) for file in files])
    rows = [row for row in chain.from_iterable(zip_longest(*columns)) if row is not None]
    return [file for file, _ in rows], [label for _, label in rows], names


def _mode(file: Path) -> str:
    """How a file stores its pixels; only its head is read."""
    try:
        with Image.open(file) as image:
            return image.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise InputError(f"the image {file} cannot be read: {said(problem)}") from problem
