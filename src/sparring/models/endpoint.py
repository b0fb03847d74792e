"""A model behind HTTP: asked in batches, several at once, with patience, and never twice about the same image."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from sparring.errors import ModelError
from sparring.models.blackbox import BlackBox, Gives, Reading, Said, learn
from sparring.models.exchange import Exchange, GarbledError, Reply, TooLargeError
from sparring.models.loaded import LoadedModel
from sparring.models.mapped import Mapped
from sparring.models.memory import FILE, Memory
from sparring.models.openinference import OpenInference
from sparring.models.pixels import digests
from sparring.models.service import Service, service

TROUBLES = ("tries again", "timed out", "unreachable", "unreadable", "no numbers")


class Endpoint(BlackBox):
    """A model behind an address, or behind a file that describes a service.

    Settings are those of `Service`, as in `Endpoint("http://host:8080/v2/models/m", rate=50, queries=10_000)`. Nothing
    is asked before the first call. A query that was answered is never sent again: in this object, and, once it is
    `remembering` a folder, in whichever process goes on from there. Raises InputError where a setting makes no sense,
    and, when called, ModelError where the server fails or a limit is reached.
    """

    def __init__(
        self,
        address: str | Service,
        *,
        memory: Memory | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        **settings: Any,
    ):
        super().__init__()
        self.service = address if isinstance(address, Service) else service(address, **settings)
        self._memory, self._clock, self._sleep = memory or Memory(), clock, sleep
        self._exchange = Exchange(
            self.service.url, self.service.secrets, self.service.manners, self._memory, clock=clock, sleep=sleep
        )
        self._protocol = OpenInference(self.service) if self.service.request is None else Mapped(self.service)
        self._reading: Reading | None = None
        self._most, self._learned = self.service.manners.batch, False
        self.eval()

    @property
    def levels(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The steps between 0 and 1 that arrive there; what the server says of it is known once it was met."""
        return self._protocol.pixels.levels

    def remembering(self, folder: Path) -> Self:
        """The same endpoint, whose answers are kept in a folder and found there by whoever goes on."""
        file = folder / FILE
        if self._memory.file == file:
            return self
        return type(self)(self.service, memory=Memory(file), clock=self._clock, sleep=self._sleep)

    @torch.no_grad()
    def meet(self, x: Tensor) -> Gives:
        """What it gives away. The first time it is asked twice, so that one that answers at random is found out."""
        self._prepare(x[:1])
        name = self._named("gives")
        gives: Gives | None = self._memory.noted(name)
        if gives is None:
            rows = self._protocol.pixels.write(x[:1])
            first, second = self._post(rows), self._post(rows)
            reading = self._reading or learn(first, self.service.answers, self._protocol.classes)
            self._teach(reading)
            self._keep(rows, reading(first))
            apart = float(np.abs(reading(first) - reading(second)).max())
            self._memory.note(self._named("apart"), apart / max(1e-12, float(np.abs(reading(first)).max())))
            gives = first.gives
            self._memory.note(name, gives)
        return gives

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits, in float32, an equal query asked once."""
        self._prepare(x)
        rows = self._protocol.pixels.write(x)
        queries = digests(rows, self.service.form.encode())
        known = self._memory.find(list(dict.fromkeys(queries))) if self.service.remember else {}
        fresh = {query: place for place, query in enumerate(queries) if query not in known}
        places = list(fresh.values()) if self.service.remember else list(range(len(rows)))
        self._memory.count("from memory", len(rows) - len(places))
        found = self._answers(rows, places)
        if self.service.remember:
            known |= dict(zip(fresh, found, strict=True))
            found = [known[query] for query in queries]
        table = np.stack([np.frombuffer(answer, np.float32) for answer in found])
        return torch.from_numpy(table).to(x.device)

    def troubles(self) -> tuple[bool, str]:
        """What became of the queries, these runs together, and whether the answers can be trusted."""
        counts = self._memory.counts()
        apart = self._memory.noted(self._named("apart")) or 0.0
        text = f"{counts.get('sent', 0):,.0f} images were sent to {self._exchange.name}"
        if counts.get("from memory"):
            text += f", and {counts['from memory']:,.0f} more were asked about that it had answered before"
        text += f"; the slowest answer took {counts.get('slowest', 0):.1f} s"
        statuses = {f"answered {name}": count for name, count in counts.items() if name.isdecimal()}
        named = statuses | {name: counts[name] for name in TROUBLES[1:] if counts.get(name)}
        if named:
            text += "; it faltered: " + ", ".join(f"{name} {count:,.0f} times" for name, count in sorted(named.items()))
        if apart > 1e-3:
            text += f"; the same image was answered twice, {apart:.1%} apart"
        return apart <= 1e-3, text

    def extra_repr(self) -> str:
        """The address, and how it is read: what two runs must share."""
        return self.service.form

    def _prepare(self, x: Tensor) -> None:
        """Look up what the server says of itself, and how its answers were read before."""
        if not self._learned:
            self._protocol.learn(self._exchange, self._memory, tuple(x.shape[1:]))
            noted = self._memory.noted(self._named("reading"))
            self._reading = Reading(noted[0], noted[1]) if noted else None
            self._most = min(self._most, self._protocol.batch or self._most)
            self._learned = True

    def _teach(self, reading: Reading) -> None:
        self._reading = reading
        self._memory.note(self._named("reading"), [reading.kind, reading.classes])

    def _named(self, what: str) -> str:
        return f"{what} of {self.service.form}"

    def _keep(self, rows: np.ndarray[Any, Any], table: np.ndarray[Any, Any]) -> list[bytes]:
        """Keep the answers about these inputs."""
        answers = [row.astype(np.float32).tobytes() for row in table]
        if self.service.remember:
            self._memory.add(dict(zip(digests(rows, self.service.form.encode()), answers, strict=True)))
        return answers

    def _answers(self, rows: np.ndarray[Any, Any], places: Sequence[int]) -> list[bytes]:
        """The answers about the inputs at these places, kept as they come, several requests at once.

        Where one fails, those under way are waited for, since they are paid for, and no further one is sent.
        """
        parts = [rows[list(places[at : at + self._most])] for at in range(0, len(places), self._most)]
        if self._reading is None and parts:
            return [*self._part(parts[0]), *self._answers(rows, places[len(parts[0]) :])]
        if len(parts) < 2 or self.service.at_once == 1:
            return [answer for part in parts for answer in self._part(part)]
        first: list[BaseException] = []

        def work(part: np.ndarray[Any, Any]) -> list[bytes]:
            try:
                return [] if first else self._part(part)
            except BaseException as error:
                first.append(error)
                self._exchange.halt.set()
                return []

        try:
            with ThreadPoolExecutor(self.service.at_once) as pool:
                try:
                    found = list(pool.map(work, parts))
                except BaseException as error:  # the user's Ctrl-C
                    first.append(error)
                    self._exchange.halt.set()
                    raise
        finally:
            self._exchange.halt.clear()
        if first:
            raise first[0]
        return [answer for part in found for answer in part]

    def _part(self, rows: np.ndarray[Any, Any]) -> list[bytes]:
        """The answers to one request, or to several where the server finds it too large."""
        try:
            found = self._post(rows)
        except TooLargeError:
            if len(rows) == 1:
                raise ModelError(
                    f"{self._exchange.name} takes no image of this size (413); send smaller ones"
                ) from None
            self._most = min(self._most, -(-len(rows) // 2))
            half = len(rows) // 2
            return [*self._part(rows[:half]), *self._part(rows[half:])]
        if self._reading is None:
            self._teach(learn(found, self.service.answers, self._protocol.classes))
        assert self._reading is not None
        return self._keep(rows, self._reading(found))

    def _post(self, rows: np.ndarray[Any, Any]) -> Said:
        """One request, and what is said; an answer that is no number counts as none."""

        def read(reply: Reply) -> Said:
            said = self._protocol.read(reply, len(rows))
            named = np.ones(1) if said.labels is None else said.labels >= 0
            if said.scores is not None and not np.isfinite(np.where(named, said.scores, 0.0)).all():
                self._memory.count("no numbers")
                bad = int((~np.isfinite(np.where(named, said.scores, 0.0))).any(1).sum())
                raise GarbledError(f"answers {bad} of {len(rows)} inputs with NaN or infinity")
            if self._reading is not None and said.labels is None and said.scores is not None:
                count = said.scores.shape[1]
                if count != self._reading.classes:
                    raise GarbledError(f"answers with {count} scores an input, and with {self._reading.classes} before")
            return said

        request = self._protocol.request(rows)
        return self._exchange.ask(request.path, request.body, request.headers, read, len(rows))


def load_endpoint(name: str) -> LoadedModel:
    """The endpoint of an address, or of a YAML or JSON file that describes one; nothing is asked yet."""
    made = Endpoint(name)
    classes = made.service.classes if isinstance(made.service.classes, tuple) else None
    return LoadedModel(made, f"endpoint {made.service.address}", None, classes)
