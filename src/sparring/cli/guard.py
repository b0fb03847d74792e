"""How a verb ends when it cannot go on: one sentence on stderr and an exit code, never a traceback.

0 done · 1 it failed · 2 what was asked for makes no sense · 3 the verdict is not good enough (--min-robust, --strict) ·
130 stopped by Ctrl-C
"""

import os
import re
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import typer

from sparring.errors import AccessError, InputError, SparringError, SpecError

Verb = TypeVar("Verb", bound=Callable[..., None])

FAILED, ASKED_WRONGLY, NOT_MET, STOPPED = 1, 2, 3, 130
STOP = "stopped; run the same command again to go on"


def guarded(verb: Verb) -> Verb:
    """The verb, with every exception turned into a sentence; with `--debug` or SPARRING_DEBUG=1 it is let through."""

    @wraps(verb)
    def run(*args: Any, **settings: Any) -> None:
        try:
            verb(*args, **settings)
        except KeyboardInterrupt:
            say(STOP)
            raise typer.Exit(STOPPED) from None
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if settings.get("debug") or os.environ.get("SPARRING_DEBUG", "") not in ("", "0"):
                raise
            said = sentence(error, str(settings.get("model") or ""))
            say(as_options(said) if {"out", "fresh"} <= set(settings) else said, error=True)
            wrong = isinstance(error, InputError | AccessError | SpecError)
            raise typer.Exit(ASKED_WRONGLY if wrong else FAILED) from None

    return run  # pyright: ignore[reportReturnType]: wraps keeps the signature, which is all that typer reads


def say(text: str, *, error: bool = False) -> None:
    """One line on stderr."""
    head = typer.style("error:", fg=typer.colors.RED, bold=True) + " " if error else ""
    typer.echo(head + " ".join(text.split()), err=True)


def complaint(error: Any, arguments: Sequence[str]) -> str:
    """What typer has against what was typed, and the value itself, which its newer versions leave out."""
    said: str = error.format_message().rstrip(".")
    if not isinstance(error, typer.BadParameter) or error.param is None:
        return said
    typed = [word.partition("=") for word in arguments]
    values = [
        value if equals else (*arguments, "")[place + 1]
        for place, (name, equals, value) in enumerate(typed)
        if name in error.param.opts
    ]
    return f"{said} (it is {values[-1]})" if values and values[-1] not in said else said


def sentence(error: Exception, model: str = "") -> str:
    """What went wrong, for a user; `model` is what the model was called."""
    if isinstance(error, SparringError):
        return str(error)
    what = f"{type(error).__name__}: {first_line(error)}"
    if type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError):
        return "the memory does not suffice; take a smaller --batch-size, or fewer samples with --limit"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; see to it and run the same command again"
    if place := own_search(error):
        return f"the attack's search failed at {place}: {what}"
    if in_user_code(error):
        return f"{f'the model {model}' if model else 'the model'} failed with {what}"
    return f"this should not happen: {what}; run again with --debug, and report what it shows"


def as_options(said: str) -> str:
    """The same with a remedy in the words of the command, for a verb that has --out and --fresh."""
    said = said.replace("give one, such as linf:8/255", "give one, such as --threat linf:8/255")
    said = re.sub(r"allow access to (\w+)", r"add --access \1", said)
    return re.sub(r"give another folder, or delete .* to start anew", "give another --out, or add --fresh", said)


def first_line(error: Exception) -> str:
    """The first line of what an exception says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "(no message)")


OURS = Path(__file__).parents[1]


def in_user_code(error: Exception) -> bool:
    """Whether the exception passed through the user's own code or a module of torch: whether a model is to blame."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    return any(file.match("torch/nn/modules/module.py") or _users(file) for file in files)


def own_search(error: Exception) -> str:
    """The line of an attack of the user's own that failed by itself, or "": also where what it asked of a model did."""
    frames = traceback.extract_tb(error.__traceback__)
    begun = [place for place, frame in enumerate(frames) if frame.name == "search" and _users(Path(frame.filename))]
    inside = [Path(frame.filename) for frame in frames[begun[-1] :]] if begun else []
    asked = next((place for place, file in enumerate(inside) if file.is_relative_to(OURS)), len(inside))
    if not inside or any(file.match("torch/nn/modules/module.py") or _users(file) for file in inside[asked:]):
        return ""
    last = [frame for frame in frames if _users(Path(frame.filename))][-1]
    return f"{Path(last.filename).name}, line {last.lineno}"


def _users(file: Path) -> bool:
    """Whether a file is the user's own: no part of this package, of Python or of what was installed beside it."""
    known = [OURS, *(Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib"))]
    return not any(file.is_relative_to(place) for place in known)
