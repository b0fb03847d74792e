"""The verb `list`: what can be named."""

from enum import StrEnum
from typing import Annotated

import typer

from sparring.cli.guard import guarded


class Kind(StrEnum):
    """What can be listed."""

    attacks = "attacks"
    plans = "plans"
    spaces = "spaces"
    losses = "losses"
    risks = "risks"


@guarded
def catalogue(
    what: Annotated[Kind | None, typer.Argument(help="What to list", show_default="everything")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (also SPARRING_DEBUG=1)")] = False,
) -> None:
    """List the attacks, plans, spaces, losses and risks that can be named."""
    from sparring.cli.show import catalogue, console

    for kind in [what] if what else list(Kind):
        console().print(catalogue(kind.value))
