"""Which Hosts and Origins a listener serves: the guard against DNS rebinding and foreign web pages. Pure.

A page in somebody's browser can reach a server on loopback; what gives it away is its ``Origin``, or a ``Host`` that
is not ours (MCP 2025-11-25 and 2026-07-28, transports, "Security"). Verdicts are remembered: there are few different
ones, and a request pays one look-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from mcpgateway.errors import Forbidden

_REMEMBERED: Final = 256


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine only."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class BrowserPolicy:
    """The rules of one listener.

    ``host`` is the address it is bound to. On loopback the ``Host`` of a request must be a loopback name or one of
    ``allowed_hosts``; elsewhere it must be one of ``allowed_hosts`` if there are any. An ``Origin`` must be in
    ``cors`` (``*``: any), be the same as the ``Host``, or on loopback be a loopback page.
    """

    def __init__(self, host: str, *, allowed_hosts: Iterable[str] = (), cors: Iterable[str] = ()) -> None:
        self._loopback = is_loopback(host)
        self._hosts = frozenset(name.lower() for name in allowed_hosts)
        self._cors = frozenset(cors)
        self._verdicts: dict[tuple[bytes | None, bytes | None], str | None] = {}

    def check(self, host: bytes | None, origin: bytes | None) -> None:
        """Refuse a request that does not come from where it may.

        :raises Forbidden: naming what to configure if it should
        """
        key = (host, origin)
        try:
            problem = self._verdicts[key]
        except KeyError:
            problem = self._judge(_text(host), _text(origin))
            if len(self._verdicts) >= _REMEMBERED:
                self._verdicts.clear()
            self._verdicts[key] = problem
        if problem is not None:
            raise Forbidden(problem)

    def allowed_origin(self, origin: bytes) -> bool:
        """Whether pages of this origin may read our answers (CORS)."""
        return "*" in self._cors or _text(origin) in self._cors

    def _judge(self, host: str, origin: str) -> str | None:
        name, port = _split(host)
        if name not in self._hosts and host.lower() not in self._hosts:
            if self._loopback and not is_loopback(name):
                return f"this listener does not serve the host {name[:100]!r}; see listen.allowed_hosts"
            if not self._loopback and self._hosts:
                return f"this listener does not serve the host {name[:100]!r}; see listen.allowed_hosts"
        if not origin or origin in self._cors or "*" in self._cors:
            return None
        try:
            parts = urlsplit(origin)
            page, page_port = parts.hostname or "", parts.port
        except ValueError:
            page, page_port = "", None
        if self._loopback and is_loopback(page):
            return None
        if page and page == name and page_port == port:
            return None
        return f"requests from pages of {origin[:100]!r} are not served; see listen.cors"


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("latin-1").strip()


def _split(host: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{host}")
        return (parts.hostname or "").lower(), parts.port
    except ValueError:
        return "", None
