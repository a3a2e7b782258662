"""What the other era may know of a peer's capabilities, and which of them a question needs.

The 2025-11-25 tasks (``tasks``) and the tasks extension of 2026-07-28 are two protocols, of which a bridge carries
neither: nobody is told across it that somebody has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import NULL, members_of, raw_of
from mcpgateway.protocol.capabilities import acted_upon
from mcpgateway.protocol.methods import CLIENT_CAPABILITIES
from mcpgateway.protocol.translation.splicing import discard, is_object, text, without

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"


def of_client(capabilities: Raw) -> Raw:
    """A client's capabilities as a server of the other era gets them, in either direction.

    Without tasks, and without the promise to tell of roots that change, which cannot be kept: modern servers are told
    nothing outside calls, and modern clients have nothing to tell. An ``elicitation`` stays as it is: ``{}`` means
    forms in both eras, and ``url`` is there only if the client declared it.

    :raises InvalidParams: it is not an object
    """
    members = members_of(capabilities)
    roots = members.get("roots")
    if roots is not None:
        members["roots"] = without(roots, "listChanged")
    return _without_tasks(members)


def of_session(capabilities: Raw) -> Raw:
    """The capabilities that a legacy session for a modern request has to be negotiated with.

    Requests with equal ones (`mcpgateway.protocol.capabilities.capability_key`) may use the same session.

    :raises InvalidParams: it is not an object
    """
    return acted_upon(of_client(capabilities))


def of_modern_server(capabilities: Raw) -> Raw:
    """A modern server's capabilities in the words of an ``InitializeResult``, which has no extensions.

    :raises InvalidParams: it is not an object
    """
    members = members_of(capabilities)
    discard(members, ("tasks", "extensions"))
    return raw_of(members)


def of_legacy_server(capabilities: Raw) -> Raw:
    """A legacy server's capabilities in the words of a ``DiscoverResult``.

    :raises InvalidParams: it is not an object
    """
    return _without_tasks(members_of(capabilities))


def _without_tasks(members: dict[str, Raw]) -> Raw:
    discard(members, ("tasks",))
    extensions = members.get("extensions")
    if extensions is not None:
        others = without(extensions, TASKS_EXTENSION)
        if others is not extensions and not members_of(others):
            del members["extensions"]
        else:
            members["extensions"] = others
    return raw_of(members)


# ---- what a question needs -------------------------------------------------------------------------------------------


def missing(method: str, params: Raw | None, capabilities: Raw) -> str | None:
    """What a client would have had to declare to be asked this, and did not; ``None`` where it may be asked.

    Dotted: ``elicitation.url``. A method that is no question to clients needs what nobody can declare: itself.

    :raises InvalidParams: the params or the capabilities are not an object
    """
    needed = CLIENT_CAPABILITIES.get(method)
    if needed is None:
        return method
    declared = members_of(capabilities).get(needed, NULL)
    if declared == NULL:
        return needed
    parts = members_of(declared) if is_object(declared) else {}
    members = members_of(params)
    if needed == "elicitation":
        mode = text(members.get("mode")) or "form"
        # `{}` says forms only, as before there were modes (2025-11-25, client/elicitation, "Capabilities").
        given = mode in parts or (mode == "form" and "url" not in parts)
        return None if given else f"elicitation.{mode}"
    if needed == "sampling" and "tools" not in parts and _given(members, "tools", "toolChoice"):
        return "sampling.tools"
    return None


def _given(members: Mapping[str, Raw], *names: str) -> bool:
    return any(members.get(name, NULL) != NULL for name in names)


def required(capability: str) -> dict[str, JSON]:
    """A dotted capability as the object that declares it, for ``data.requiredCapabilities`` of a -32021."""
    declared: dict[str, JSON] = {}
    for part in reversed(capability.split(".")):
        declared = {part: declared}
    return declared
