"""What a user says of an endpoint: in a YAML or JSON file, or behind the `?` of its address."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import yaml

from sparring.errors import InputError
from sparring.models.blackbox import Kind
from sparring.models.exchange import GarbledError, Manners
from sparring.models.pixels import Form, Layout
from sparring.models.secrets import Secrets

CHOICES = {"pixels": get_args(Form), "layout": get_args(Layout), "answers": get_args(Kind)}
WHOLE, REAL = ("batch", "at_once", "tries", "queries"), ("rate", "timeout", "pause", "seconds")
FLAGS = ("binary", "remember")
APART = {*WHOLE, *REAL, "headers", "remember"}
"""Settings that may change while a run goes on: they change no answer."""


@dataclass(frozen=True)
class Service:
    """An endpoint. Every text may name environment variables, as `env:NAME`, and secrets must."""

    url: str
    """The address: of the model (`http://host:port/v2/models/NAME`), or that to which an own request is sent."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    pixels: Form | None = None
    """How an image is sent: `float` in [0, 1], those `rounded` to 8 bits, `uint8` to 255, or `png` in base64."""
    layout: Layout | None = None
    """Where the channels are; first unless the server says otherwise."""
    shape: tuple[int, ...] | None = None
    """The shape of one input as it is sent, where it is not that of the data."""
    answers: Kind | None = None
    """What comes back; told by the first answer unless it is said."""
    classes: int | tuple[str, ...] | None = None
    """How many classes there are, or their names in order."""
    request: Any = None
    """The body of an own request, in which `$image` stands for one image, or `$images` for a list of them."""
    rows: str | None = None
    """Where in the reply the list with one answer an image is; nowhere where a request holds one image."""
    scores: str | None = None
    """Where in an answer the scores are: a list, or a mapping from names."""
    names: str | None = None
    """Where in it the names of those scores are, where they are a list of the best."""
    label: str | None = None
    """Where in it the winner is, where there are no scores."""
    input: str | None = None
    """The name of the input tensor."""
    output: str | None = None
    """The name of the output tensor."""
    binary: bool | None = None
    """Whether tensors travel as bytes; told by the server unless it is said."""
    remember: bool = True
    """Whether an equal query is answered from what was paid for."""
    batch: int | None = None
    at_once: int = 2
    rate: float | None = None
    timeout: float = 30.0
    tries: int = 8
    pause: float = 0.5
    queries: int | None = None
    seconds: float | None = None

    @cached_property
    def secrets(self) -> Secrets:
        """The environment variables that the settings name; raises InputError where one is missing."""
        query = parse_qsl(urlsplit(self.url).query, keep_blank_values=True)
        return Secrets([*self.headers.items(), *query, *_texts(self.request)])

    @property
    def address(self) -> str:
        """The address as it may be shown."""
        return self.url

    @property
    def path(self) -> str:
        """The address without its server."""
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    @property
    def count(self) -> int | None:
        """How many classes there are, where that was said."""
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes

    @property
    def manners(self) -> Manners:
        """How the server is to be asked."""
        alone = self.request is not None and self.rows is None
        batch = self.batch or (1 if alone else 32)
        return Manners(batch, self.at_once, self.rate, self.timeout, self.tries, self.pause, self.queries, self.seconds)

    @property
    def form(self) -> str:
        """All that decides what an answer means, which two runs must share; neither pace nor limits."""
        said = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in APART}
        return json.dumps({name: value for name, value in said.items() if value is not None}, sort_keys=True)

    def numbered(self, labels: Any) -> np.ndarray[Any, Any]:
        """Class numbers of names; numbers stay what they are. Raises GarbledError for a name that is not known."""
        array = np.asarray(labels)
        if array.dtype.kind in "iu":
            return array.astype(np.int64)
        places = self.places

        def number(label: Any) -> int:
            if isinstance(label, int) and not isinstance(label, bool):
                return label
            if isinstance(label, float) and label.is_integer():
                return int(label)
            text = str(label)
            if text in places:
                return places[text]
            if text.isdecimal() and not places:
                return int(text)
            hint = "none are known; say classes=" if not places else f"known are {', '.join(list(places)[:5])}, …"
            raise GarbledError(f"names the class {text[:40]!r} ({hint})")

        flat = [number(label) for label in array.ravel().tolist()]
        return np.array(flat, np.int64).reshape(array.shape)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The number of each class, by its name."""
        return {name: place for place, name in enumerate(self.classes)} if isinstance(self.classes, tuple) else {}


KNOWN = tuple(one.name for one in fields(Service))
"""The settings that there are."""


def service(name: str, **settings: Any) -> Service:
    """The endpoint of an address with options behind a `?`, or of a YAML or JSON file; settings come on top.

    Options of this tool are taken from the address, and whatever else stands there is left in it. Raises InputError
    where a setting is unknown or makes no sense, where an option behind `/v2/models/` is all but one of this tool's, or
    where a password stands in the address.
    """
    if name.startswith(("http://", "https://")):
        bare, _, query = name.partition("?")
        own: dict[str, Any] = {}
        rest: list[str] = []
        for part in filter(None, query.split("&")):
            key, _, value = part.partition("=")
            known = key in KNOWN and key not in ("url", "headers", "request")
            if not known and "/v2/models/" in bare and not value.startswith("env:"):
                _refuse_misspelt(key)
            own |= {key: value} if known else {}
            rest += [] if known else [part]
        given: dict[str, Any] = {"url": bare + (f"?{'&'.join(rest)}" if rest else ""), **own, **settings}
    elif "://" in name:
        raise InputError(f"the endpoint's address begins with {name[:8]!r}; it must begin with http:// or https://")
    else:
        given = {**_file(Path(name)), **settings}
    if unknown := [key for key in given if key not in KNOWN]:
        raise InputError(f"the endpoint has no setting {unknown[0]!r}; it has {', '.join(KNOWN)}")
    made = Service(**{key: _fit(key, value) for key, value in given.items() if value is not None})
    if urlsplit(made.url).scheme not in ("http", "https"):
        raise InputError(f"the endpoint's url begins with {made.url[:8]!r}; it must begin with http:// or https://")
    if "@" in urlsplit(made.url).netloc:
        raise InputError("the address holds a user's name or password; send it as headers: {Authorization: env:NAME}")
    _ = made.secrets, made.manners  # which refuse at the door what makes no sense
    if made.request is not None and made.scores is None and made.label is None:
        raise InputError("an own request needs to know where its answer is; give scores or label")
    if made.request is not None and not {"$image", "$images"} & {text for _, text in _texts(made.request)}:
        raise InputError('the request holds neither "$image" nor "$images"; write one where the image goes')
    return made


def _refuse_misspelt(key: str) -> None:
    """Raise InputError for what looks like a setting and is none: no server of that protocol would know it."""
    near = get_close_matches(key.lower(), KNOWN, 1, 0.75)
    if near:
        raise InputError(f"the endpoint has no setting {key!r}; did you mean {near[0]}?")


def _fit(key: str, value: Any) -> Any:
    """A setting of the right kind, from a text or from what YAML made of one; raises InputError where it is none."""
    wrong = f"the endpoint's {key} is {value!r}; "
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise InputError(f"{wrong}give {' or '.join(CHOICES[key])}")
        return value
    try:
        if key in WHOLE:
            return int(str(value))
        if key in REAL:
            return float(value)
    except (ValueError, TypeError):
        raise InputError(f"{wrong}give a number") from None
    if key in FLAGS:
        flags = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(value).lower() not in flags:
            raise InputError(f"{wrong}give yes or no")
        return flags[str(value).lower()]
    if key == "headers":
        if not isinstance(value, dict):
            raise InputError("the endpoint's headers must be a mapping from names to texts")
        return {str(name): str(text) for name, text in value.items()}
    if key == "shape":
        sides = value.replace("x", ",").split(",") if isinstance(value, str) else value
        if not isinstance(sides, list | tuple) or not all(str(side).isdecimal() for side in sides):
            raise InputError(f"{wrong}write the shape of one input as 3x32x32")
        return tuple(int(side) for side in sides)
    return _classes(value) if key == "classes" else value if key == "request" else str(value)


def _classes(value: Any) -> int | tuple[str, ...]:
    """How many classes, or their names: a list, names with commas, or a .txt file with one a line."""
    if str(value).isdecimal():
        return int(str(value))
    if isinstance(value, str):
        file = Path(value)
        value = file.read_text().splitlines() if file.suffix == ".txt" and file.is_file() else value.split(",")
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise InputError(f"the endpoint's classes are {value!r}; give how many there are, their names, or a .txt file")
    return tuple(str(name).strip() for name in value)


def _file(path: Path) -> dict[str, Any]:
    """The settings in a file, which is data: nothing in it is run."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        found = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise InputError(f"{path} is no YAML: {' '.join(str(problem).split())[:200]}") from None
    if not isinstance(found, dict) or "url" not in found:
        raise InputError(f"{path} describes no endpoint; it needs a url")
    return {str(key): value for key, value in found.items()}


def _texts(value: Any, name: str = "request") -> list[tuple[str, str]]:
    """All texts in nested JSON, with the nearest name above each."""
    if isinstance(value, str):
        return [(name, value)]
    items = (
        value.items()
        if isinstance(value, dict)
        else [(name, item) for item in value]
        if isinstance(value, list)
        else ()
    )
    return [pair for key, item in items for pair in _texts(item, str(key))]
