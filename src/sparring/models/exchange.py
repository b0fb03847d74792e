"""Asking a server over HTTP with good manners: a pace, patience where it falters, and limits that nothing passes."""

import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from queue import Empty, LifoQueue
from threading import Event, Lock
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from sparring.errors import InputError, ModelError
from sparring.models.memory import Memory
from sparring.models.proxies import connect, proxy
from sparring.models.secrets import Secrets

Value = TypeVar("Value")

LONGEST = 30.0
"""Seconds between two tries at most, unless the server asks for more."""
FIRST = 3
"""How often a server is looked for that never answered: it may not be there at all."""
AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""Answers after which it is worth asking again."""


@dataclass(frozen=True)
class Manners:
    """How often, how much and how long a server is asked."""

    batch: int = 32
    """How many inputs go into one request at most."""
    at_once: int = 2
    """How many requests are under way at the same time at most."""
    rate: float | None = None
    """How many inputs a second may be sent, on average; None for as fast as it goes."""
    timeout: float = 30.0
    """Seconds to wait for an answer."""
    tries: int = 8
    """How often a request is sent at most: with the pauses below, the server may be away for a minute."""
    pause: float = 0.5
    """Seconds before the second try; they double for each further one, up to 30, and vary by half."""
    queries: int | None = None
    """How many inputs may be sent in all, by this run and by those that it goes on from; None for no limit."""
    seconds: float | None = None
    """How long this run may ask, from the first request on; None for no limit."""

    def __post_init__(self) -> None:
        for name in ("batch", "at_once", "rate", "timeout", "tries", "pause", "queries", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; it must be above 0")


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class GarbledError(Exception):
    """An answer that cannot be read; the next one may be better."""


class TooLargeError(Exception):
    """The request holds more than the server takes."""


class Exchange:
    """A server, the connections to it, and what was asked of it so far.

    Raises ModelError where the server cannot be reached, refuses, or keeps failing, and where a limit is reached; each
    says so in a sentence in which no secret stands.
    """

    def __init__(
        self,
        url: str,
        secrets: Secrets,
        manners: Manners,
        memory: Memory,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ):
        self._idle: LifoQueue[http.client.HTTPConnection] = LifoQueue()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is no address of a server; write http://host:port/path")
        self._scheme, self._host, self._port = parts.scheme, parts.hostname, parts.port
        self.name = f"{parts.scheme}://{parts.netloc}"
        self._proxy = proxy(parts.scheme, parts.hostname)
        self._secrets, self._manners, self._memory = secrets, manners, memory
        self.halt = Event()
        """Set, it ends whatever waits for its next try."""
        self._clock, self._sleep, self._dice = clock, sleep or self.halt.wait, random.Random()
        self._lock, self._free, self._began, self._met = Lock(), 0.0, -1.0, False

    def __del__(self) -> None:
        while not self._idle.empty():
            self._idle.get().close()

    def ask(
        self, path: str, body: bytes | None, headers: Mapping[str, str], read: Callable[[Reply], Value], inputs: int = 0
    ) -> Value:
        """What `read` makes of the answer, asked for again where the server falters; `inputs` is what it costs."""
        trouble, begun, attempt = "", self._clock(), 0
        for attempt in range(self._manners.tries):
            if attempt:
                self._memory.count("tries again")
            self._wait(self._turn(inputs), trouble)
            if inputs:
                self._charge(inputs)
            least = 0.0
            try:
                reply = self._send(path, body, headers)
                self._met = True
                if inputs and reply.status in (413, 429):
                    self._memory.count("sent", -inputs)  # turned away unseen
                if reply.status == 413:
                    raise TooLargeError
                if reply.status == 200:
                    return read(reply)
                if reply.status not in AGAIN:
                    raise ModelError(self._refusal(reply))
                trouble, least = f"answers {reply.status}", _after(reply)
                self._memory.count(str(reply.status))
            except GarbledError as error:
                trouble = str(error)
                self._memory.count("unreadable")
            except TimeoutError:
                trouble = f"has not answered within {self._manners.timeout:g} s"
                self._memory.count("timed out")
            except (OSError, http.client.HTTPException) as error:
                trouble = f"cannot be reached{self._by} ({_reason(error)})"
                self._memory.count("unreachable")
                if inputs and isinstance(error, ConnectionRefusedError):
                    self._memory.count("sent", -inputs)  # nobody was there to be asked
                if not self._met and attempt + 1 >= FIRST:
                    break
            if attempt + 1 < self._manners.tries:
                wished = min(self._manners.pause * 2**attempt, LONGEST) * self._dice.uniform(0.5, 1.5)
                self._wait(max(wished, least), trouble)
        raise ModelError(
            f"{self.name} {trouble}, {attempt + 1} times in {self._clock() - begun:.0f} s; what was answered is kept: "
            f"run the same again once it is well"
        )

    @property
    def _by(self) -> str:
        """By which proxy, for a message."""
        return "" if self._proxy is None else f" through the proxy {self._proxy.name}"

    def _charge(self, inputs: int) -> None:
        """Count the inputs before they are sent; raises ModelError where that would pass the limit."""
        limit = self._manners.queries
        sent = self._memory.count("sent", inputs)
        if limit is not None and sent > limit:
            self._memory.count("sent", -inputs)
            raise ModelError(
                f"the limit of {limit:,} queries is reached: {sent - inputs:,.0f} inputs were sent, and the next "
                f"request holds {inputs:,}; what was answered is kept: raise the limit and run the same again to go on"
            )

    def _turn(self, inputs: int) -> float:
        """How long to wait so that the pace is kept; the turn after that is whoever asks next."""
        if self._manners.rate is None or not inputs:
            return 0.0
        with self._lock:
            now = self._clock()
            turn = max(self._free, now)
            self._free = turn + inputs / self._manners.rate
        return turn - now

    def _wait(self, seconds: float, trouble: str) -> None:
        """Sleep; raises ModelError where the time that is allowed would be over by then."""
        with self._lock:
            now = self._clock()
            self._began = now if self._began < 0 else self._began
            spent = now - self._began
        limit = self._manners.seconds
        if limit is not None and spent + seconds >= limit:
            why = f", and {self.name} {trouble}" if trouble else ""
            raise ModelError(
                f"the limit of {limit:g} seconds is reached{why}; what was answered is kept: run the same again to go "
                f"on"
            )
        if seconds > 0:
            self._sleep(seconds)
        if self.halt.is_set():
            raise ModelError(f"{self.name} was not asked any more")

    def _send(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """One request and its answer, over a connection that is kept for the next."""
        line, begun = self._connection(), self._clock()
        kept = False
        try:
            try:
                line.request("GET" if body is None else "POST", self._target(path), body, self._filled(headers))
            except ValueError:
                raise InputError(f"a header for {self.name} holds characters that no header may hold") from None
            found = line.getresponse()
            reply = Reply(found.status, {key.lower(): value for key, value in found.getheaders()}, found.read())
            kept = not found.will_close
        finally:
            self._idle.put(line) if kept else line.close()
            self._memory.highest("slowest", self._clock() - begun)
        return reply

    def _connection(self) -> http.client.HTTPConnection:
        left = self._manners.timeout
        if self._manners.seconds is not None:
            left = min(left, max(self._manners.seconds - (self._clock() - self._began), 0.01))
        try:
            line = self._idle.get_nowait()
            line.timeout = left
            if line.sock is not None:
                line.sock.settimeout(left)
        except Empty:
            line = connect(self._scheme, self._host, self._port, self._proxy, left)
        return line

    def _target(self, path: str) -> str:
        """The first line's address: the path alone, or, for a proxy that passes plain HTTP on, all of it."""
        whole = self._proxy is not None and self._scheme == "http"
        return (self.name if whole else "") + self._secrets.fill(path)

    def _filled(self, headers: Mapping[str, str]) -> dict[str, str]:
        own = self._proxy.headers if self._proxy is not None and self._scheme == "http" else {}
        return {name: self._secrets.fill(value) for name, value in headers.items()} | dict(own)

    def _refusal(self, reply: Reply) -> str:
        """Why it makes no sense to ask again."""
        words = " ".join(self._secrets.hide(reply.body[:400].decode("utf-8", "replace")).split())[:200]
        said = f": {words}" if words else ""
        if reply.status in (401, 403):
            named = self._secrets.named
            remedy = f"look at {named}" if named else "give it credentials, as in headers: {Authorization: env:TOKEN}"
            return f"{self.name} refuses to answer ({reply.status}); {remedy}{said}"
        if reply.status == 407:
            return f"{self.name} cannot be reached{self._by}, which wants a name and a password in its address"
        if 300 <= reply.status < 400:
            there = self._secrets.hide(reply.headers.get("location", "elsewhere"))
            return f"{self.name} sends its callers to {there} ({reply.status}); give that address itself"
        return f"{self.name} refuses the request ({reply.status}){said}"


def _after(reply: Reply) -> float:
    """How long the server asks to be left alone, in seconds, and ten minutes at most."""
    wish, left = reply.headers.get("retry-after", ""), 0.0
    if wish.strip().isdecimal():
        left = float(wish)
    else:
        with suppress(ValueError, TypeError):
            left = parsedate_to_datetime(wish).timestamp() - time.time()
    return min(max(left, 0.0), 600.0)


def _reason(error: Exception) -> str:
    """Why a connection failed, in two or three words."""
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, ssl.SSLError):
        return f"no secure connection: {error.reason or type(error).__name__}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, OSError) and str(error).startswith("Tunnel connection failed"):
        return f"the proxy answers {str(error).partition(':')[2].strip()[:60]}"
    return "the connection broke off"
