"""What was typed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """A run as it was typed: what is kept in `run.json`, so that `sparring report DIR` can find everything again."""

    model: str
    data: str | None = None
    threat: str | None = None
    plan: str | None = None
    attack: str | None = None
    settings: tuple[str, ...] = ()
    goal: str | None = None
    access: str | None = None
    queries: int | None = None
    limit: int | None = None
    resize: int | None = None
    seed: int | None = None
    batch_size: int | None = None
    device: str | None = None
    precision: float | None = None
