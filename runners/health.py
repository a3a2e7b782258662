"""What a gateway or bridge says of itself, for ``runners.service``: by its listener, or else in its state file."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import attrs

from mcpgateway.errors import JSON
from runners.statefile import State

PATIENCE: Final = 2.0
"""Seconds that it has to do so."""
Health: TypeAlias = "Mapping[str, JSON]"
_WELL: Final = ("connected", "stable")
"""States of an upstream to which a former reason does not belong."""


def lines(state: State) -> Iterator[str]:
    """What people read: where it listens, if it does, and the state of each server and upstream."""
    what, url = ("listening", state.url) if state.url else ("metrics", state.metrics)
    told = ask(url) if url else None
    if url:
        yield f"  {what:<9} {url}{'' if told is not None else ', but does not answer'}"
    if not told:
        told = {"upstreams": {name: attrs.asdict(each) for name, each in state.upstreams.items()}}
    for kind in ("servers", "upstreams"):
        states = told.get(kind)
        for name, each in states.items() if isinstance(states, dict) else ():
            word = each.get("state") if isinstance(each, dict) else each
            reason = each.get("reason") if isinstance(each, dict) and word not in _WELL else None
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
