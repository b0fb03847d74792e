"""What every chapter of the course begins with: how fast to be, where its figures go, and how they look."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib import pyplot


def chapter(file: str = "") -> tuple[bool, Callable[[str], None]]:
    """Whether to take fewer samples, and how the current figure is kept under a name.

    Figures lie in the folder `figures` beside the chapter's `file` (beside the notebook, where there is no file), or in
    the one that SPARRING_COURSE_FIGURES names. SPARRING_COURSE_FAST=1 asks for fewer samples, as the tests do. The look
    of pyplot's figures is set for the whole process, and torch takes one thread: for small tensors more only wait.
    """
    torch.set_num_threads(1)
    figures = Path(os.environ.get("SPARRING_COURSE_FIGURES") or Path(file).parent / "figures")
    pyplot.rcParams.update({"figure.constrained_layout.use": True, "figure.dpi": 130, "axes.titlesize": 11})

    def keep(name: str) -> None:
        figures.mkdir(parents=True, exist_ok=True)
        pyplot.savefig(figures / f"{name}.png", bbox_inches="tight")

    return os.environ.get("SPARRING_COURSE_FAST") == "1", keep
