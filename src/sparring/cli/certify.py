"""The verb `certify`: what no attack can change, proven; the other end of a verdict's bracket."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sparring.cli.guard import guarded


@guarded
def certify(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="file.py:factory, package.module:factory, a .pt2 file, timm:, torchvision: or hf:NAME",
        ),
    ],
    data: Annotated[
        str, typer.Option("--data", "-d", help="An .npz or .safetensors file with x and y, a folder, file.py:function")
    ],
    threat: Annotated[str, typer.Option("--threat", "-t", help="linf:8/255, l2:0.5, l1:12")],
    method: Annotated[
        str, typer.Option("--method", "-m", help="auto, ibp, crown-ibp, fast-lin, crown, alpha-crown or smoothing")
    ] = "auto",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the rows; one of an `evaluate` gets its bracket")
    ] = Path("sparring-certificates"),
    sigma: Annotated[float | None, typer.Option(help="Smoothing: the size of the noise", show_default="0.25")] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, help="Smoothing: noisy copies of each input", show_default="10000"),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Smoothing: the chance that a certificate is false", show_default="0.001"),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Only the first so many samples")] = None,
    resize: Annotated[
        int | None, typer.Option("--resize", min=1, help="Scale and crop images to so many pixels a side")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides every random draw")] = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Samples bounded at a time")] = 16,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …", show_default="cuda if there is one")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the certificates that the folder holds")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress display")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also SPARRING_DEBUG=1)")] = False,
) -> None:
    """Prove for as many samples as possible that no input of the threat is taken for another class.

    Stopped at any moment, the same command goes on where it was. Where DIR holds the verdict of `evaluate` about the
    same model, data and threat, its report then shows both ends: certified ≤ true ≤ attacked.
    """
    from sparring.cli.proving import Wanted, noise, prove, shown

    method, drawn = noise(method, sigma, samples, alpha)
    wanted = Wanted(model, data, threat, method, *drawn, limit, resize, seed, batch_size, device)
    found = prove(wanted, out, fresh=fresh, quiet=quiet)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        shown(found, out)
