"""Calling the function that a user named, as `file.py:function` or `package.module:function`."""

import sys
import traceback
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from sparring.errors import AbsentError, MissingExtraError, ModelError, SparringError, kind_of


def build(reference: str, error: type[SparringError] = ModelError) -> Any:
    """What the named function returns, called without arguments; an `nn.Module` instance is returned as it is.

    A file is run as a private module. Its folder (for a module, the working directory) is on sys.path until the
    function has returned. Raises `error` where there is no such file, module or name, and, with the line, where the
    user's code fails.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name.isidentifier():
        raise error(f"{reference!r} names no function; write file.py:function or package.module:function")
    path = Path(place)
    if path.suffix == ".py" and not path.is_file():
        raise AbsentError(f"there is no file {place}")
    home = path.resolve().parent if path.suffix == ".py" else Path.cwd()
    with _on_path(home):
        try:
            module = _run(path.resolve()) if path.suffix == ".py" else import_module(place)
        except ModuleNotFoundError as problem:
            if problem.name and (place == problem.name or place.startswith(problem.name + ".")):
                raise error(f"there is no module {problem.name}; for a file write {place}.py:{name}") from None
            raise error(f"importing {place} failed{_where(problem, home)}: {said(problem)}") from problem
        except (Exception, SystemExit) as problem:
            raise error(f"importing {place} failed{_where(problem, home)}: {said(problem)}") from problem
        if name not in vars(module):
            raise error(f"{place} has no {name!r}; it offers {_offers(module)}")
        thing = getattr(module, name)
        if isinstance(thing, nn.Module):
            return thing
        if not callable(thing):
            raise error(f"{place}:{name} is {kind_of(thing)}; name a function that returns what is wanted")
        try:
            return thing()
        except (Exception, SystemExit) as problem:
            raise error(f"calling {place}:{name} failed{_where(problem, home)}: {said(problem)}") from problem


def optional(package: str, extra: str) -> ModuleType:
    """A package that an extra brings; raises MissingExtraError where it is missing, ModelError where it is broken."""
    try:
        return import_module(package)
    except ModuleNotFoundError as problem:
        if problem.name == package:
            raise MissingExtraError(package, extra) from None
        raise ModelError(f"importing {package} failed: {said(problem)}") from problem
    except (ImportError, RuntimeError) as problem:
        raise ModelError(f"importing {package} failed: {said(problem)}") from problem


def said(problem: BaseException) -> str:
    """What an exception says, on one line: its type, and the first line of its text (of TorchScript's the last)."""
    if isinstance(problem, SparringError):
        return str(problem)
    lines = [" ".join(line.split()) for line in str(problem).splitlines() if line.strip()]
    if not lines:
        return type(problem).__name__
    text = lines[-1] if "TorchScript" in lines[0] else lines[0]
    text = text if len(text) <= 240 else text[:239] + "…"
    kind = type(problem).__name__
    return (text if text.startswith(kind) else f"{kind}: {text}").rstrip(".:; ")


@contextmanager
def _on_path(folder: Path) -> Generator[None, None, None]:
    """With the folder first on sys.path; afterwards without it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def _run(path: Path) -> ModuleType:
    """The file, run as a module under a name that meets no other. It stays known: pickle and dataclasses look it up."""
    name = f"_sparring_{path.stem}_{zlib.crc32(str(path).encode()):08x}"
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _where(problem: BaseException, home: Path) -> str:
    """The last line of the user's own code that the exception passed."""
    if isinstance(problem, SyntaxError) and problem.filename:
        return f" at {Path(problem.filename).name}, line {problem.lineno}"
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__)[1:] if not frame.filename.startswith("<")]
    own = [f for f in frames if Path(f.filename).is_relative_to(home) and "site-packages" not in f.filename]
    frames = own or [frame for frame in frames if "importlib" not in frame.filename]
    return f" at {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""


def _offers(module: ModuleType) -> str:
    """The public functions, classes and models that a module defines."""
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, nn.Module) or (callable(value) and getattr(value, "__module__", "") == module.__name__))
    ]
    return ", ".join(sorted(names)) or "no functions"
