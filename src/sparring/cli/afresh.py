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
    whole = folder.resolve()
    aside = whole.with_name(f".{whole.name}.before")
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
            for name in held:
                (aside / name).replace(whole / name)
        raise
    finally:
        if held:
            shutil.rmtree(aside, ignore_errors=True)


def _remove(path: Path) -> None:
    """A file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
