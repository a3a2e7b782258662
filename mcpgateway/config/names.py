"""What servers, namespaces and upstreams may be called, and legal names in place of others. Pure.

The names of servers and namespaces stand in paths and in the names of tools; those of upstreams in logs and figures.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from itertools import count

from mcpgateway.config.document import legible

LENGTH = 64

_NAME = re.compile(rf"(?!\.+$)[A-Za-z0-9._-]{{1,{LENGTH}}}")
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]+")
_HASH = 8


def problem(name: str) -> str:
    """What is wrong with the name of a server or a namespace; empty where nothing is."""
    if _NAME.fullmatch(name):
        return ""
    return f"names have 1 to {LENGTH} letters, digits, '.', '_' or '-', and not dots only"


def upstream_problem(name: str) -> str:
    """What is wrong with the name of an upstream; empty where nothing is."""
    if not name.strip():
        return "is empty"
    if legible(name) != name:
        return "looks like an endpoint, and names are shown in logs: put it under 'endpoint'"
    if len(name) > LENGTH or not name.isprintable():
        return f"must have 1 to {LENGTH} characters, all of them printable"
    return ""


def legal(name: str, kind: str) -> str:
    """The name, if a server or namespace may have it; else what is legal of it, or ``kind``, and a hash of it all."""
    if not problem(name):
        return name
    hashed = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    shown = kind if legible(name) != name else _ILLEGAL.sub("-", name).strip("-.")[: LENGTH - _HASH - 1]
    return f"{shown or kind}-{hashed}"


def unique(name: str, taken: Container[str]) -> str:
    """The name, or the first of ``name-2``, ``name-3`` … that is free, cut to what a name may have."""
    if name not in taken:
        return name
    return next(free for n in count(2) if (free := f"{name[: LENGTH - 1 - len(str(n))]}-{n}") not in taken)
