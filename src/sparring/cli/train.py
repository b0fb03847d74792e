"""The verb `train`: harden a model, judge it, and write its card."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.guard import guarded

Flags = Annotated[list[str] | None, typer.Option("--set", "-s", help="A setting of the risk: beta=6; several times")]
Moves = Annotated[
    list[str] | None, typer.Option("--attack-set", help="A setting of its attack: steps=7; several times")
]


@guarded
def train(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="file.py:factory, package.module:factory, timm:NAME, …; @FILE: weights"),
    ],
    data: Annotated[
        str, typer.Option("--data", "-d", help="What to train on: .npz or .safetensors with x and y, a folder, …")
    ],
    threat: Annotated[str, typer.Option("--threat", "-t", help="linf:8/255, l2:0.5, l1:12")],
    val: Annotated[
        str | None,
        typer.Option("--val", help="What chooses the epoch", show_default="the last tenth of --data"),
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", help="What the verdict is about", show_default="the same as --val")
    ] = None,
    risk: Annotated[
        str, typer.Option("--risk", "-r", help="See `sparring list risks`; awp+trades wraps; file.py:function")
    ] = "adversarial",
    settings: Flags = None,
    attack: Annotated[
        str | None, typer.Option("--attack", "-a", help="What the risk trains against", show_default="pgd, 10 steps")
    ] = None,
    attack_settings: Moves = None,
    teacher: Annotated[str | None, typer.Option(help="A MODEL that the risk learns from")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for weights, verdict and card")] = Path(
        "sparring-training"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data")] = 10,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Of all processes together")] = 128,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate at its highest", show_default="0.001; for sgd 0.1")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd")] = "adamw",
    decay: Annotated[float, typer.Option(help="Weight decay; biases and normalisation go without")] = 5e-4,
    schedule: Annotated[str, typer.Option(help="one-cycle, cosine, multistep or constant")] = "one-cycle",
    clip: Annotated[float | None, typer.Option(help="Longest gradient", show_default="any")] = None,
    augment: Annotated[str, typer.Option(help="flip,crop:4,cutout:8,mixup,cutmix")] = "",
    average: Annotated[str, typer.Option(help="Average of the weights: ema:0.995, swa:0.75")] = "",
    precision: Annotated[str, typer.Option(help="float32, bfloat16, float16 or auto")] = "float32",
    plan: Annotated[str, typer.Option("--plan", "-p", help="Of the verdict; see `sparring list plans`")] = "quick",
    certify: Annotated[
        str | None,
        typer.Option(
            "--certify", help="Prove as well: auto, crown, …, smoothing, none", show_default="as the risk asks"
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Train on the first so many alone")] = None,
    resize: Annotated[
        int | None, typer.Option("--resize", min=1, help="Scale and crop images to so many pixels a side")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides every random draw, first weights included")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …", show_default="cuda if there is one")] = None,
    track: Annotated[
        list[str] | None, typer.Option("--track", help="tensorboard:FOLDER or mlflow:EXPERIMENT; several times")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what the folder holds of an earlier training")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also SPARRING_DEBUG=1)")] = False,
) -> None:
    """Harden a model: train it against an attack, keep the epoch that held best, and judge that.

    A risk of certified training ends in a certificate: by bounds after IBP, by smoothing after training among noise.
    Stopped at any moment, the same command goes on where it was. Under torchrun several processes share the training.
    The hardened model is then called MODEL@OUT/weights.safetensors in every other command.
    """
    from sparring.cli.hardening import Wanted, harden, shown

    wanted = Wanted(
        model,
        data,
        val,
        test,
        threat,
        risk,
        tuple(settings or ()),
        attack,
        tuple(attack_settings or ()),
        teacher,
        epochs,
        batch_size,
        rate,
        optimizer,
        decay,
        schedule,
        clip,
        augment,
        average,
        precision,
        plan,
        certify,
        limit,
        resize,
        seed,
        device,
        tuple(track or ()),
    )
    card = harden(wanted, out, fresh=fresh, quiet=quiet)
    if card is None:
        return
    if as_json:
        typer.echo(json.dumps(card, indent=2))
    else:
        shown(card, out)
