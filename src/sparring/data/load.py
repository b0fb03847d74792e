"""One call that reads data from wherever it lies."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, cast

from sparring.data.arrays import pair, read_npz, read_safetensors
from sparring.data.images import read_folder
from sparring.data.items import read_items
from sparring.data.samples import Samples
from sparring.errors import InputError
from sparring.models.factory import build
from sparring.models.loaded import Resize


def load_data(
    source: Any, resize: Resize | None = None, limit: int | None = None, classes: Sequence[str] | None = None
) -> Samples:
    """The samples of a source; of more than `limit`, the first.

    The source is a path or a name: an `.npz` or `.safetensors` file with `x` and `y`, a folder that holds a folder of
    images for each class, `file.py:function` or `package.module:function`; or it is what such a function returns: a
    pair (x, y) of tensors or arrays, a Dataset of pairs, or a DataLoader that does not shuffle.

    Bytes are divided by 255, and floats stay as they are. Files and arrays, which are often channels last, are brought
    to channels first where one reading alone makes sense, and refused where two do; grey images get their channel axis.
    Tensors keep their shape. `resize` scales and crops images that do not have the right size yet. `classes` are the
    model's names: a folder of images that carries them gets the model's labels.

    Everything is held in memory as floats: five thousand images of 3 × 224 × 224 take 3 GB. A folder or a Dataset that
    would not fit is refused before it is read.

    Raises InputError, in one sentence, where the source is missing, unreadable, empty, or does not fit itself.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; it must be at least 1, or None for all")
    samples = _read(source, resize, limit, classes)[:limit]
    if resize is None or samples.x.ndim != 4:
        return samples
    return Samples(resize.apply(samples.x), samples.y, samples.ids, samples.classes)


def _read(source: Any, resize: Resize | None, limit: int | None, classes: Sequence[str] | None) -> Samples:
    """The samples as the source has them, but for images whose size is not right yet."""
    if isinstance(source, Samples):
        return source
    if isinstance(source, tuple | list) and len(cast("Sequence[Any]", source)) == 2:
        x, y = cast("Sequence[Any]", source)
        return pair(x, y, "the data", limit)
    if not isinstance(source, str | PurePath):
        return read_items(source, resize, limit)
    name, path = str(source), Path(source)
    if path.is_dir():
        return read_folder(path, resize, limit, classes)
    if "://" in name:
        raise InputError(
            f"the data are at an address ({name.partition('://')[0]}://…), and nothing is fetched; give a file or a "
            f"folder of this machine, or file.py:function"
        )
    if path.suffix in (".npz", ".safetensors"):
        if not path.is_file():
            raise InputError(f"there is no data file {name}")
        return (read_npz if path.suffix == ".npz" else read_safetensors)(path, limit)
    if ":" in name:
        made = build(name, InputError)
        if isinstance(made, str | PurePath):
            raise InputError(f"{name} returned the text {str(made)!r}; return (x, y), a Dataset or a DataLoader")
        return _read(made, resize, limit, classes)
    if path.exists():
        raise InputError(f"{name} is not a data file; give an .npz or .safetensors file, a folder or file.py:function")
    raise InputError(f"there is no file or folder {name}")
