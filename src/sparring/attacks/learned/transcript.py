"""What a black box was asked and what it answered, kept so that no query is paid for twice."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparring.attacks.learned import keeping
from sparring.errors import StoreError
from sparring.types import Batch


class Transcript:
    """Points in the order in which they are asked about, answers as far as they are known, and the round's network.

    In a folder there are two files: `round`, which holds the points and the network's weights as the round found them,
    and `answers`, which is written after every batch of answers. Without a folder nothing is written.
    """

    def __init__(self, folder: str | Path | None, network: nn.Module, points: Batch, same: dict[str, Any]):
        self._folder = None if folder is None else Path(folder)
        self._network, self._begun = network, time.monotonic()
        self._same = same | {"network and inputs": keeping.named(network, [points])}
        self.points, self.round = points.detach().clone(), 0
        self._answers: list[Tensor] = []
        if not self._read():
            self.turn(0, self.points)

    @property
    def answers(self) -> Tensor:
        """All answers so far, on the device of the points: classes, n, or probabilities, n × k."""
        return torch.cat(self._answers)

    @property
    def known(self) -> int:
        """How many points have been answered."""
        return sum(len(part) for part in self._answers)

    def clock(self) -> float:
        """Seconds since this run began."""
        return time.monotonic() - self._begun

    def hear(self, told: Tensor) -> None:
        """The answers to the next points."""
        self._answers = [torch.cat([*self._answers, told.detach().to(self.points.device)])]
        if self._folder is not None:
            keeping.write(self._folder / "answers.safetensors", {"answers": self.answers}, {"same": self._same})

    def turn(self, index: int, points: Batch) -> None:
        """Begin the round of this number with these points, the earlier ones first, and the network as it is."""
        self.round, self.points = index, points
        if self._folder is not None:
            weights = {f"network/{name}": value for name, value in self._network.state_dict().items()}
            settings = {"same": self._same, "round": index}
            keeping.write(self._folder / "round.safetensors", weights | {"points": points}, settings)

    def _read(self) -> bool:
        if self._folder is None or not (self._folder / "round.safetensors").exists():
            return False
        device = self.points.device
        tensors, held = self._checked("round.safetensors")
        weights = {name.removeprefix("network/"): v for name, v in tensors.items() if name.startswith("network/")}
        self._network.load_state_dict(weights)
        self.round, self.points = held["round"], tensors["points"].to(device)
        if (self._folder / "answers.safetensors").exists():
            self._answers = [self._checked("answers.safetensors")[0]["answers"].to(device)]
        return True

    def _checked(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        assert self._folder is not None
        path = self._folder / name
        tensors, held = keeping.read(path)
        for what, value in self._same.items():
            if held.get("same", {}).get(what) != value:
                raise StoreError(f"{path} belongs to another extraction (its {what} differs); choose another folder")
        return tensors, held
