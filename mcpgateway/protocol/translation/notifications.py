"""Notifications in the words of the other era: most cross as they are, some have nobody to hear them.

What is told of outside calls (listings that change, resources that are updated) is
`mcpgateway.protocol.translation.subscriptions`' to stamp and to strip.
"""

from __future__ import annotations

from typing import Final

from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import Message, members_of, raw_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.levels import LEVELS, passes
from mcpgateway.protocol.translation.splicing import prune_meta, text

LOG: Final = "notifications/message"

_NOT_TO_MODERN_SERVERS: Final = frozenset(
    {
        "notifications/initialized",  # of the gateway's own handshake
        "notifications/progress",  # of a client's work on a server's request
        "notifications/roots/list_changed",
        "notifications/tasks/status",
    }
)
_NOT_TO_MODERN_CLIENTS: Final = frozenset(
    {
        "notifications/cancelled",  # of a server's own request: what was parked for it is to be dropped
        "notifications/elicitation/complete",
        "notifications/tasks/status",
    }
)
_NOT_TO_LEGACY_CLIENTS: Final = frozenset(
    {
        "notifications/cancelled",  # of the gateway's subscription
        "notifications/subscriptions/acknowledged",
        "notifications/tasks",
    }
)


def of_legacy_client(message: Message) -> Message | None:
    """What a legacy client's notification is to a modern server; ``None``: nothing."""
    return None if message.method in _NOT_TO_MODERN_SERVERS else message


def of_modern_server(message: Message) -> Message | None:
    """What a modern server's notification is to a legacy client; ``None``: nothing.

    :raises InvalidParams: its ``_meta`` is not an object
    """
    if message.method in _NOT_TO_LEGACY_CLIENTS:
        return None
    params = members_of(message.params)
    if not prune_meta(params, SUBSCRIPTION_ID.__eq__):
        return message
    return message.replace(params=raw_of(params) if params else None)


def of_legacy_server(message: Message, *, log_level: str | None) -> Message | None:
    """What a legacy server's notification is to the modern client of a call; ``None``: nothing.

    ``log_level`` is what the call's envelope says: without one the client wants no logs at all.

    :raises InvalidParams: it says a level that nobody knows (the call should have been refused: `checked_level`)
    """
    if message.method == LOG:
        least = checked_level(log_level)
        return message if least is not None and passes(_level(message), least) else None
    return None if message.method in _NOT_TO_MODERN_CLIENTS else message


def checked_level(level: str | None) -> str | None:
    """A log level that a client asks for.

    :raises InvalidParams: nobody knows it
    """
    if level is not None and level not in LEVELS:
        raise InvalidParams(f"unknown log level {level[:50]!r}")
    return level


def _level(message: Message) -> str | None:
    try:
        return text(members_of(message.params).get("level"))
    except InvalidParams:
        return None
