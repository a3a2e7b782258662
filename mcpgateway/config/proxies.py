"""Which proxy leads to a server: the configured one, or what the environment says. Pure.

The rules of the environment are those of `urllib.request`, which most tools in Python share: ``HTTPS_PROXY``,
``HTTP_PROXY`` and ``ALL_PROXY`` in any case, small letters first, and ``NO_PROXY`` with hosts, domains, ``host:port``
and ``*``. As in Go, no such variable is about this machine: a loopback host is never behind a proxy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

from mcpgateway.config.model import Secret
from mcpgateway.config.urls import url_problem

_IN_AUTHORITY = re.compile(r"[^/?#@]*@?[^/?#@]*")
_PORT = re.compile(r":[0-9]*$")


@attrs.frozen
class Proxy:
    """A proxy, and who says so."""

    url: Secret
    """With user and password, where it has them."""
    source: str
    """The key or the variable that it comes from."""

    @property
    def problem(self) -> str:
        """What is wrong with the URL; empty where nothing is. A variable is not checked before it is needed."""
        return proxy_problem(self.url.reveal())

    @property
    def place(self) -> str:
        """Host and port, which may be shown."""
        return "?" if self.problem else urlsplit(self.url.reveal()).netloc.rpartition("@")[2]


def is_no_proxy(configured: str) -> bool:
    """Whether a configured proxy means that there is to be none."""
    return configured.strip().lower() in ("", "none")


def proxy_problem(url: str) -> str:
    """What is wrong with the URL of a proxy, without showing it; empty where nothing is."""
    scheme, slashes, rest = url.partition("://")
    problem = url_problem(f"{scheme}{slashes}{rest.rpartition('@')[2]}")
    if not problem and not _IN_AUTHORITY.fullmatch(rest.removesuffix("/")):
        return "must end after host and port, and have special characters of user and password as %XX"
    return problem


def proxy_for(url: str, configured: Secret | None, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that leads to a URL; ``configured`` wins over the environment."""
    if configured is not None:
        return None if is_no_proxy(configured.reveal()) else Proxy(configured, "'http.proxy'")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    proxies = proxies_of(environ)
    for scheme in parts.scheme, "all":
        if scheme in proxies and not is_bypassed(parts.netloc, proxies.get("no", "")):
            given = proxies[scheme]
            return Proxy(Secret(given if "://" in given else f"http://{given}"), f"{scheme.upper()}_PROXY")
    return None


def proxies_of(environ: Mapping[str, str]) -> dict[str, str]:
    """What the ``…_proxy`` variables say, by what stands before that (``http``, ``all``, ``no``).

    As `urllib.request.getproxies_environment` has it, which reads the environment of the process.
    """
    given = [(name, value) for name, value in environ.items() if name[-6:].lower() == "_proxy"]
    proxies = {name[:-6].lower(): value for name, value in given if value}
    if "REQUEST_METHOD" in environ:
        proxies.pop("http", None)  # CGI gives the header "Proxy" of a request as HTTP_PROXY
    for name, value in given:
        if name[-6:] == "_proxy":
            kind = name[:-6].lower()
            if value:
                proxies[kind] = value
            else:
                proxies.pop(kind, None)
    return proxies


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, as far as its name tells."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_bypassed(netloc: str, no_proxy: str) -> bool:
    """Whether ``no_proxy`` names a host, given as a URL has it; as `urllib.request.proxy_bypass_environment` has it."""
    if no_proxy == "*":
        return True
    netloc = netloc.lower()
    host = _PORT.sub("", netloc)
    for entry in filter(None, map(str.strip, no_proxy.split(","))):
        name = entry.lstrip(".").lower()
        if name in (host, netloc) or host.endswith(f".{name}") or netloc.endswith(f".{name}"):
            return True
    return False
