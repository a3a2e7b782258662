"""Names that clients accept, one for each thing, the same after every restart.

Clients take tool names of ``^[A-Za-z0-9_-]{1,64}$`` only, while servers list names of any kind; and two servers may
list the same one. A name that has to change, because of a character, its length or a collision, ends in a mark: 8
characters of a hash of what it stands for. Nothing ever takes a name apart again: the way back is the routing table.

**What is stable.** `assign` goes through claims in one order (servers as configured; within a server by name, since
some servers list in a new order each time) and lets earlier claims stand. So a name depends on its own server and tool,
and on those before it only if they claim the same name. With prefixed names that takes a pair like server ``a`` with
tool ``b_c`` and server ``a_b`` with tool ``c``, both ``a_b_c``: the one configured first has it, the other's is marked.
Hence a server added at the end renames nothing, and one added elsewhere renames only what claims one of its names.
(With the policy ``last`` the last claim stands instead, and nothing of this holds.)
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import count
from typing import Final
from urllib.parse import quote

import attrs

from mcpgateway.catalog.rules import Collision

MAX_LENGTH: Final = 64
"""What Claude, OpenAI, Codex and Bedrock take."""
_MARK_LENGTH: Final = 8
_HEAD_LENGTH: Final = MAX_LENGTH - _MARK_LENGTH - 1
_is_legal: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_LENGTH}}}").fullmatch
_illegal_characters: Final = re.compile(r"[^A-Za-z0-9_-]")


@attrs.frozen(cache_hash=True)
class Target:
    """What a name stands for: a server, and the name (or URI) that this server itself uses."""

    server: str
    original: str


@attrs.frozen
class Claim:
    """A target, the name it wants, and the names it takes instead, without end, where that one is taken."""

    target: Target
    name: str
    spares: Iterable[str]


@attrs.frozen
class Clash:
    """A name that more than one target wanted, in the order of their claims."""

    name: str
    targets: tuple[Target, ...]


@attrs.frozen
class Assignment:
    """Who has which name. A target that is missing here lost its name and is not shown."""

    names: Mapping[Target, str]
    clashes: tuple[Clash, ...]


def legal(name: str) -> str:
    """The name itself where clients accept it; else its head, cleaned, and the mark of the whole name."""
    return name if _is_legal(name) else marked(name, name)


def marked(name: str, identity: str) -> str:
    """The head of the name, cleaned, and the mark of what it stands for: always legal."""
    return f"{_illegal_characters.sub('_', name[:_HEAD_LENGTH])}_{_mark(identity)}"


def _mark(identity: str) -> str:
    """The first 40 bits of SHA-256 in base 32: 8 characters of ``a-z2-7``."""
    return b32encode(sha256(identity.encode()).digest()[:5]).decode().lower()


def name_spares(target: Target, full: str) -> Iterator[str]:
    """Names for a target whose own one is taken: the prefixed name, then that with marks of server and tool."""
    yield full
    for attempt in count():
        yield marked(full, f"{target.server}\0{target.original}\0{attempt}")


def uri_spares(target: Target) -> Iterator[str]:
    """URIs (or URI templates) for a target whose own one is taken.

    ``mcpgateway://{server}/{uri}``, with the URI verbatim at the end, so that a template remains one and what a client
    expands from it still ends in the server's own URI.
    """
    for attempt in count():
        tail = f".{attempt}" if attempt else ""
        yield f"mcpgateway://{quote(target.server, safe='')}{tail}/{target.original}"


def assign(claims: Iterable[Claim], collision: Collision) -> Assignment:
    """Give each claim, in order, the name it wants or what the policy says."""
    claimants: dict[str, list[Target]] = {}
    for claim in claims:
        wanting = claimants.setdefault(claim.name, [])
        wanting.append(claim.target)
        if len(wanting) > 1 and collision is Collision.PREFIX:
            spare = next(name for name in claim.spares if name not in claimants)
            claimants[spare] = [claim.target]
    keeper = _KEEPERS[collision]
    return Assignment(
        {holder: name for name, wanting in claimants.items() if (holder := keeper(wanting)) is not None},
        tuple(Clash(name, tuple(wanting)) for name, wanting in claimants.items() if len(wanting) > 1),
    )


def _first(wanting: Sequence[Target]) -> Target | None:
    return wanting[0]


def _last(wanting: Sequence[Target]) -> Target | None:
    return wanting[-1]


def _only(wanting: Sequence[Target]) -> Target | None:
    return wanting[0] if len(wanting) == 1 else None


_KEEPERS: Final[Mapping[Collision, Callable[[Sequence[Target]], Target | None]]] = {
    Collision.PREFIX: _first,
    Collision.FIRST: _first,
    Collision.LAST: _last,
    Collision.ERROR: _only,
}
