"""The verbs. What they need of torch, each imports for itself."""

import json
import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sparring.cli.asked import Asked, Demands
from sparring.cli.catalogue import catalogue
from sparring.cli.certify import certify as certifying
from sparring.cli.guard import ASKED_WRONGLY, NOT_MET, STOP, STOPPED, complaint, guarded, say
from sparring.cli.serve import serve
from sparring.cli.train import train
from sparring.errors import InputError

app = typer.Typer(
    name="sparring",
    help="Attack, measure and harden vision models.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="file.py:factory, a .pt2, TorchScript or .onnx file, timm:, torchvision: or hf:NAME, http://…, a .yaml",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", "-d", help="An .npz or .safetensors file with x and y, a folder of images, file.py:function"
    ),
]
Threat = Annotated[
    str | None, typer.Option("--threat", "-t", help="linf:8/255, l2:0.5, l1:12, l0:10; no eps: smallest")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for rows, verdict and report", show_default="named after the run"),
]
Goal = Annotated[str | None, typer.Option(help="untargeted, or targeted:CLASS", show_default="untargeted")]
Sees = Annotated[str | None, typer.Option("--access", help="gradients, scores or decisions", show_default="gradients")]
Queries = Annotated[
    int | None,
    typer.Option(min=1, help="Forward passes that each attack may spend on a sample", show_default="no limit"),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Only the first so many samples")]
Side = Annotated[
    int | None,
    typer.Option(
        "--resize", min=1, help="Scale and crop images to so many pixels a side", show_default="as the model says"
    ),
]
Seed = Annotated[int | None, typer.Option(help="Decides every random draw", show_default="0")]
Size = Annotated[int | None, typer.Option("--batch-size", "-b", min=1, help="Samples in a batch", show_default="auto")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, …", show_default="cuda if there is one")]
Speed = Annotated[
    str | None, typer.Option(help="Search a faster copy: off, or some of fold,bf16,compile", show_default="auto")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget what the folder holds of an earlier run")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress display")]
Json = Annotated[bool, typer.Option("--json", help="Print the verdict as JSON")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks (also SPARRING_DEBUG=1)")]


@app.command(
    epilog="For example: `sparring evaluate net.py:make --data test.npz --threat linf:8/255 --out verdict`\n\n"
    "Ends with 0: done, 1: it failed, 2: what was asked for makes no sense, 3: --min-robust or --strict is not met, "
    "130: stopped by Ctrl-C."
)
@guarded
def evaluate(
    model: Model,
    data: Data = None,
    threat: Threat = None,
    out: Out = None,
    plan: Annotated[
        str | None,
        typer.Option(
            "--plan",
            "-p",
            help="See `sparring list plans`; or file.py:function, which returns attacks",
            show_default="standard",
        ),
    ] = None,
    goal: Goal = None,
    access: Sees = None,
    queries: Queries = None,
    limit: Limit = None,
    resize: Side = None,
    seed: Seed = None,
    batch_size: Size = None,
    device: Device = None,
    speed: Speed = None,
    precision: Annotated[
        float | None,
        typer.Option(help="Stop once robust accuracy is this sure, as in 0.01", show_default="all samples"),
    ] = None,
    certify: Annotated[str | None, typer.Option(help="Bound it from below too: auto, ibp, crown, …")] = None,
    min_robust: Annotated[
        float | None,
        typer.Option(
            "--min-robust", min=0, max=1, help="End with 3 where robust accuracy is below this share, as in 0.4"
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with 3 where a check failed")] = False,
    fresh: Fresh = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Judge a model: how often is it right, and how often does it stay right under attack?

    Stopped at any moment, the same command goes on where it was. MODEL may also be a function in a Python file that
    describes the whole run: it returns dict(model=…, data=…, threat=…, plan=…), and --data and --threat are left out.
    """
    _run(
        Asked(
            model,
            data,
            threat,
            plan,
            goal=goal,
            access=access,
            queries=queries,
            limit=limit,
            resize=resize,
            seed=seed,
            batch_size=batch_size,
            device=device,
            speed=speed,
            precision=precision,
            certify=certify,
        ),
        out,
        fresh,
        quiet,
        as_json,
        Demands(min_robust, strict),
    )


@app.command(epilog="For example: `sparring attack net.py:make -d test.npz -t l2:0.5 --attack apgd --set loss=dlr`")
@guarded
def attack(
    model: Model,
    data: Data = None,
    threat: Threat = None,
    attack: Annotated[str, typer.Option("--attack", "-a", help="See `sparring list attacks`")] = "pgd",
    settings: Annotated[list[str] | None, typer.Option("--set", "-s", help="steps=100; may come several times")] = None,
    out: Out = None,
    goal: Goal = None,
    access: Sees = None,
    queries: Queries = None,
    limit: Limit = None,
    resize: Side = None,
    seed: Seed = None,
    batch_size: Size = None,
    device: Device = None,
    speed: Speed = None,
    fresh: Fresh = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run one attack by name, and keep the adversarial inputs and the rows."""
    asked = Asked(model, data, threat, None, attack, tuple(settings or ()), goal, access, queries, limit, resize, seed)
    _run(replace(asked, batch_size=batch_size, device=device, speed=speed), out, fresh, quiet, as_json)


@app.command()
@guarded
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of an earlier run")],
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write report.html and verdict.json anew from what is stored; an unfinished run is finished first."""
    with waiting("starting", quiet):
        from sparring.cli.job import kept

        folder = folder.resolve()
        asked = kept(folder)
    _run(asked, folder, fresh=False, quiet=quiet, as_json=as_json)


@app.command()
@guarded
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the reports")] = Path("sparring-demo"),
    fresh: Fresh = False,
    quiet: Quiet = False,
    open_report: Annotated[bool, typer.Option("--open", help="Show the report in the browser")] = False,
    debug: Debug = False,
) -> None:
    """Attack, measure and harden a small network on digits that come with the package, and measure it again."""
    with waiting("starting", quiet):
        from sparring.demo import run

    page = run(out, fresh=fresh, quiet=quiet)
    if open_report:
        typer.launch(str(page))


app.command("list")(catalogue)
app.command("certify", epilog="For example: `sparring certify net.py:make -d test.npz -t linf:0.1 -o verdict`")(
    certifying
)
app.command(epilog="For example: `sparring train net.py:make -d train.npz --val test.npz -t linf:0.3 --risk trades`")(
    train
)
app.command(epilog="For example: `sparring serve net.py:make --port 8080 --labels-only`")(serve)


@app.callback(invoke_without_command=True)
def about(version: Annotated[bool, typer.Option("--version", help="Show the version")] = False) -> None:
    """Attack, measure and harden vision models."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"sparring {installed('sparring')}")
        raise typer.Exit


def waiting(why: str, quiet: bool) -> AbstractContextManager[object]:
    """Something that moves on the terminal, until there is more to see."""
    return nullcontext() if quiet or not sys.stderr.isatty() else Console(stderr=True).status(why)


def _run(
    asked: Asked, out: Path | None, fresh: bool, quiet: bool, as_json: bool, demands: Demands | None = None
) -> None:
    """Do it, keep it, show it."""
    with waiting("loading the model and the data", quiet):
        from sparring.cli.job import anew, place, prepare
        from sparring.cli.show import console, verdict

        job = prepare(asked)
        folder = place(asked, job, out)
    demands = demands or Demands()
    if demands.min_robust is not None and job.threat.space.eps is None:
        raise InputError("--min-robust needs a threat with an eps, such as linf:8/255")
    with anew(folder) if fresh else nullcontext():
        found = job.run(asked, folder, progress=not quiet)
    if not job.first:
        return
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        console().print(verdict(found, folder))
    if unmet := demands.unmet(found.robust_accuracy, [check.name for check in found.doubts]):
        say(unmet, error=True)
        raise typer.Exit(NOT_MET)


def verb_of(arguments: list[str]) -> str:
    """The verb that was typed, with a space behind it; empty where there is none of that name."""
    verbs = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    return next((f"{word} " for word in arguments[1:2] if word in verbs), "")


def main() -> None:
    """The command `sparring`."""
    usage_error: Any = typer.BadParameter.__bases__[0]  # typer itself gives it no name that all its versions share
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except usage_error as error:
        say(f"{complaint(error, sys.argv)}; see `sparring {verb_of(sys.argv)}--help`", error=True)
        code = ASKED_WRONGLY
    except (typer.Abort, KeyboardInterrupt):
        say(STOP)
        code = STOPPED
    except BrokenPipeError:  # whoever read our output has gone, as `head` does, and nobody is to be told
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
