"""A service with a JSON shape of its own: a body with a place for the image, and paths to what it answers."""

import json
from typing import Any

import numpy as np

from sparring.errors import InputError
from sparring.models.blackbox import Said
from sparring.models.exchange import Exchange, GarbledError, Reply
from sparring.models.memory import Memory
from sparring.models.openinference import Request
from sparring.models.pixels import Pixels
from sparring.models.service import Service


class Mapped:
    """How such a service is asked, as its settings say. A path is names and places joined by dots; `*` means all."""

    def __init__(self, service: Service):
        self.service = service
        self.pixels = Pixels(service.pixels or "float", service.layout or "nchw", service.shape)
        self.batch, self.classes = None if service.rows is not None else 1, service.count

    def learn(self, exchange: Exchange, memory: Memory, shape: tuple[int, ...]) -> None:
        """Nothing: all is said in the settings."""

    def request(self, rows: np.ndarray[Any, Any]) -> Request:
        """The request for these inputs."""
        images = [self.pixels.spoken(row) for row in rows]
        body = json.dumps(self._filled(self.service.request, images)).encode()
        return Request(self.service.path, body, {"Content-Type": "application/json", **self.service.headers})

    def read(self, reply: Reply, count: int) -> Said:
        """What an answer says about so many inputs; raises GarbledError where it cannot be read."""
        try:
            found = json.loads(reply.body)
            rows = [found] if self.service.rows is None else along(found, self.service.rows)
            if not isinstance(rows, list) or len(rows) != count:
                raise GarbledError(f"answers {count} inputs with {len(rows) if isinstance(rows, list) else 'no list'}")
            return self._said(rows)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise GarbledError(
                f"sends an answer that cannot be read ({type(error).__name__}: {error})"[:200]
            ) from error

    def _said(self, rows: list[Any]) -> Said:
        service = self.service
        if service.scores is None:
            assert service.label is not None
            return Said(None, service.numbered([along(row, service.label) for row in rows])[:, None])
        scores = [along(row, service.scores) for row in rows]
        names = None if service.names is None else [along(row, service.names) for row in rows]
        if names is None and scores and isinstance(scores[0], dict):
            names, scores = [list(row) for row in scores], [list(row.values()) for row in scores]
        if names is None:
            return Said(np.array(scores, np.float64))
        most = max(len(row) for row in scores)
        table, labels = np.full((len(rows), most), np.nan), np.full((len(rows), most), -1)
        for place, (row, named) in enumerate(zip(scores, names, strict=True)):
            table[place, : len(row)] = row
            labels[place, : len(row)] = service.numbered(named)
        return Said(table, labels)

    def _filled(self, value: Any, images: list[Any]) -> Any:
        """The body with the images, and the secrets that it names, in their places."""
        if value == "$images":
            return images
        if value == "$image":
            if len(images) != 1:
                raise InputError('the request has a place for one "$image" alone, and rows are named: write "$images"')
            return images[0]
        if isinstance(value, str):
            return self.service.secrets.fill(value)
        if isinstance(value, dict):
            return {key: self._filled(item, images) for key, item in value.items()}
        return [self._filled(item, images) for item in value] if isinstance(value, list) else value


def along(value: Any, path: str) -> Any:
    """What stands at a path such as `result.top.*.score`; the value itself for the empty one.

    Raises KeyError, IndexError or TypeError where there is nothing.
    """
    head, _, rest = path.partition(".")
    if not head:
        return value
    if head == "*":
        if not isinstance(value, list):
            raise TypeError(f"no list at *.{rest}")
        return [along(item, rest) for item in value]
    return along(value[int(head)] if isinstance(value, list) else value[head], rest)
