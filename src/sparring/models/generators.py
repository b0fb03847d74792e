"""The default random generators, lent out and put back."""

import random
from collections.abc import Generator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch


@contextmanager
def generators_kept(device: torch.device, seed: int | None = None) -> Generator[None, None, None]:
    """Whatever is drawn inside from Python's, NumPy's or torch's default generators leaves them as they were.

    With a seed, all of them start from it. Of the devices' generators only that of `device` is kept and seeded.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    module = None if device.type == "cpu" else torch.get_device_module(device)
    which = () if device.type == "mps" else (device,)
    state = None if module is None else module.get_rng_state(*which)
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed & 0xFFFFFFFF)
            torch.default_generator.manual_seed(seed)
            if module is not None:
                with module.device(device) if which else nullcontext():
                    module.manual_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if module is not None:
            module.set_rng_state(state, *which)
