"""How an image is written down for a server: as floats, rounded to 8 bits or not, as whole numbers, or as a PNG."""

import base64
import hashlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from sparring.errors import InputError

Form: TypeAlias = Literal["float", "rounded", "uint8", "png"]
Layout: TypeAlias = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class Pixels:
    """A way of writing images, whose values lie in [0, 1]."""

    form: Form = "float"
    layout: Layout = "nchw"
    """Channels first, as here, or last. A PNG has them last whatever this says."""
    shape: tuple[int, ...] | None = None
    """The shape that one input is sent in, where that is neither."""

    @property
    def levels(self) -> int | None:
        """The steps between 0 and 1 that arrive; None for floats."""
        return None if self.form == "float" else 255

    def write(self, x: Tensor) -> np.ndarray[Any, Any]:
        """What is sent of a batch, one row an input: float32, or uint8; in 8 bits, rounded to the nearest.

        Raises InputError where inputs are no images and must be, or do not fit the shape that the server wants.
        """
        if self.form != "float":
            low, high = (float(bound) for bound in x.aminmax()) if x.numel() else (0.0, 0.0)
            if low < -1e-6 or high > 1 + 1e-6:
                raise InputError(f"inputs span [{low:.3g}, {high:.3g}], and pixels={self.form} sends what is in [0, 1]")
            x = (x.double() * 255).round()
        array = (x / 255 if self.form == "rounded" else x).detach().cpu().numpy()
        array = array.astype(np.uint8 if self.form in ("uint8", "png") else np.float32)
        if self.form == "png" or self.layout == "nhwc":
            if array.ndim != 4:
                raise InputError(
                    f"inputs have shape {tuple(x.shape)}; images, n × channels × height × width, are wanted"
                )
            array = array.transpose(0, 2, 3, 1)
        if self.shape is not None:
            if int(np.prod(self.shape)) != int(np.prod(array.shape[1:])):
                raise InputError(
                    f"one input has shape {tuple(x.shape[1:])}, and the endpoint takes {self.shape}; scale the images, "
                    f"as with --resize"
                )
            array = array.reshape(len(array), *self.shape)
        return np.ascontiguousarray(array)

    def spoken(self, row: np.ndarray[Any, Any]) -> Any:
        """One input as JSON holds it: nested lists of numbers, or the base64 of a PNG."""
        return png(row) if self.form == "png" else row.tolist()


def png(row: np.ndarray[Any, Any]) -> str:
    """The base64 of an image, height × width × 1 or 3 channels, as a PNG, which loses nothing."""
    if row.shape[2] not in (1, 3):
        raise InputError(f"images have {row.shape[2]} channels; a PNG is made of 1 or 3")
    file = BytesIO()
    Image.fromarray(row[:, :, 0] if row.shape[2] == 1 else row).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def digests(rows: np.ndarray[Any, Any], who: bytes) -> list[bytes]:
    """A name for each input and whom it is sent to, 16 bytes long; equal inputs have equal names."""
    head = hashlib.sha256(who + f"{rows.dtype}{rows.shape[1:]}".encode())
    found: list[bytes] = []
    for row in rows:
        one = head.copy()
        one.update(row.tobytes())
        found.append(one.digest()[:16])
    return found
