"""What a gateway or bridge that listens says of itself, for ``runners.service``."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from mcpgateway.errors import JSON

PATIENCE: Final = 2.0
"""Seconds that it has to do so."""
Health: TypeAlias = "Mapping[str, JSON]"


def lines(what: str, url: str) -> Iterator[str]:
    """What people read: where it is asked, as ``what``, and the state of each server and upstream."""
    told = ask(url)
    yield f"  {what:<9} {url}{'' if told is not None else ', but does not answer'}"
    for kind in ("servers", "upstreams"):
        states = (told or {}).get(kind)
        for name, state in states.items() if isinstance(states, dict) else ():
            word = state.get("state") if isinstance(state, dict) else state
            reason = state.get("reason") if isinstance(state, dict) else None
            yield f"  {kind[:-1]:<9} {name}: {word}{f' ({reason})' if reason else ''}"


def ask(url: str) -> Health | None:
    """What a gateway on this machine says of itself, nothing where it has been told to refuse us; ``None`` where it
    does not answer. Nothing secret is sent, so its certificate may be anybody's."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    try:
        with direct.open(f"{reachable(url)}/health", timeout=PATIENCE) as answer:
            told = json.load(answer)
    except urllib.error.HTTPError:
        return {}
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else {}


def reachable(url: str) -> str:
    """The URL for a client on this machine: all interfaces are no address to go to."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
