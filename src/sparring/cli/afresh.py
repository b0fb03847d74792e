"""`--fresh`: what a folder holds is set aside, and comes back where the new work is refused before it has begun."""

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sparring.errors import InputError
from sparring.world import here


@contextmanager
def afresh(folder: Path, names: Sequence[str], begun: Path) -> Generator[None]:
    """Without these files and folders of `folder` meanwhile, and for good if the file `begun` is there in the end.

    Raises InputError where several processes share the work: one would remove what another has begun.
    """
    if here().size > 1:
        raise InputError("--fresh is not for several processes at once; remove the folder first")
    whole, aside = folder.resolve(), set_aside(folder)
    if aside.is_dir() and not begun.exists():  # an earlier one was killed in between: what it set aside stands first
        _bring_back(aside, whole)
    held = [name for name in names if (whole / name).exists()]
    if held:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
    for name in held:
        (whole / name).replace(aside / name)
    try:
        yield
    except BaseException:
        if held and not begun.exists():
            for name in names:
                _remove(whole / name)
            _bring_back(aside, whole)
        raise
    finally:
        if held:
            shutil.rmtree(aside, ignore_errors=True)


def set_aside(folder: Path) -> Path:
    """Where the files of a folder are meanwhile, and stay where the process is killed in between."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.before")


def _bring_back(aside: Path, whole: Path) -> None:
    """What was set aside, but for names that are taken."""
    for one in aside.iterdir():
        if not (whole / one.name).exists():
            one.replace(whole / one.name)


def _remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
