"""The proxy that the environment names, as for curl and other clients, and how to get through it."""

import http.client
import ssl
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import (
    getproxies_environment,
    proxy_bypass_environment,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType] not in typeshed
)

from sparring.errors import InputError


class Proxy(NamedTuple):
    """Where a proxy listens, and the header that lets one in. `name` is what may be shown: it holds no password."""

    host: str
    port: int
    headers: Mapping[str, str]

    @property
    def name(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"


def proxy(scheme: str, host: str) -> Proxy | None:
    """The proxy for such an address: HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, unless NO_PROXY names the host.

    This machine is always asked directly. Raises InputError for a proxy that is itself reached in another way than by
    plain HTTP.
    """
    found = getproxies_environment()
    address = found.get(scheme) or found.get("all")
    if not address or _here(host) or proxy_bypass_environment(host, found):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme != "http" or not parts.hostname:
        raise InputError(
            f"the environment names a proxy for {scheme} whose address begins with {parts.scheme}://; give one that "
            f"begins with http://, or name {host} in NO_PROXY"
        )
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    login = {"Proxy-Authorization": f"Basic {b64encode(user.encode()).decode()}"} if parts.username else {}
    return Proxy(parts.hostname, parts.port or 80, login)


def _here(host: str) -> bool:
    """Whether a host is this machine, by its name or its address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def connect(scheme: str, host: str, port: int | None, via: Proxy | None, timeout: float) -> http.client.HTTPConnection:
    """A connection to a server, not yet opened: certificates are checked, and through a proxy HTTPS is a tunnel."""
    if scheme == "http":
        there = (host, port) if via is None else (via.host, via.port)
        return http.client.HTTPConnection(*there, timeout=timeout)
    context = ssl.create_default_context()
    if via is None:
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    line = http.client.HTTPSConnection(via.host, via.port, timeout=timeout, context=context)
    line.set_tunnel(host, port or 443, dict(via.headers))
    return line
