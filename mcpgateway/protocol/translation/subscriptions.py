"""What is told of outside calls, in the words of either era.

A legacy session hears of listings that change because the server said in its capabilities that it tells, and of
resources that it subscribed to one by one. A modern client asks for all of it in one ``subscriptions/listen``, is told
at once what of that it will hear of, and finds the id of that request in everything it hears.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import NULL, Message, members_of, raw_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.results import COMPLETE
from mcpgateway.protocol.translation.requests import Sender
from mcpgateway.protocol.translation.requests import stamped as stamped_params
from mcpgateway.protocol.translation.splicing import META, entries, is_object, text
from mcpgateway.protocol.uris import lies_below

LISTEN: Final = "subscriptions/listen"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
UPDATED: Final = "notifications/resources/updated"
URIS: Final = "resourceSubscriptions"

CHANGES: Final[Mapping[str, tuple[str, str]]] = {
    "toolsListChanged": ("tools", "notifications/tools/list_changed"),
    "promptsListChanged": ("prompts", "notifications/prompts/list_changed"),
    "resourcesListChanged": ("resources", "notifications/resources/list_changed"),
}
"""What may be listened to, with the capability of a server that tells of it, and the notification that does."""

_TRUE: Final = Raw(b"true")
_FALSE: Final = Raw(b"false")


@attrs.frozen
class Interest:
    """What is to be heard of: members of `CHANGES`, and URIs."""

    changes: tuple[str, ...]
    uris: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changes or self.uris)

    def notifications(self) -> dict[str, object]:
        """The ``notifications`` of a ``subscriptions/listen``, and of its acknowledgement."""
        found: dict[str, object] = dict.fromkeys(self.changes, True)
        return {**found, URIS: list(self.uris)} if self.uris else found

    def hears(self, message: Message) -> bool:
        """Whether a notification is of what is listened to; a resource below a URI is (2026-07-28, subscriptions)."""
        if message.method != UPDATED:
            return any(CHANGES[change][1] == message.method for change in self.changes)
        try:
            uri = text(members_of(message.params).get("uri"))
        except InvalidParams:
            return False
        return uri is not None and any(uri == whole or lies_below(uri, whole) for whole in self.uris)

    def request(self, id: bytes, sender: Sender) -> Message:
        """The ``subscriptions/listen`` that a modern server is asked with, in the name of a legacy session."""
        return jsonrpc.request(id, LISTEN, stamped_params(raw_of({"notifications": self.notifications()}), sender))


def of_session(capabilities: Raw, uris: Iterable[str]) -> Interest:
    """What a legacy session is to hear of a modern server with these capabilities: all it offers, and its URIs.

    :raises InvalidParams: the capabilities are not an object
    """
    return _honoured(CHANGES, uris, capabilities)


def of_listen(params: Raw | None, capabilities: Raw) -> Interest:
    """What a modern client is to hear of a legacy server with these capabilities: what it asks for and is offered.

    :raises InvalidParams: the params are no filter of notifications, or the capabilities are not an object
    """
    wanted = members_of(params).get("notifications", NULL)
    if not is_object(wanted):
        raise InvalidParams("params.notifications must be an object")
    members = members_of(wanted)
    return _honoured([name for name in CHANGES if _flag(members, name)], _uris(members), capabilities)


def _honoured(changes: Iterable[str], uris: Iterable[str], capabilities: Raw) -> Interest:
    offered = members_of(capabilities)
    return Interest(
        tuple(change for change in changes if _offers(offered, CHANGES[change][0], "listChanged")),
        tuple(dict.fromkeys(uris)) if _offers(offered, "resources", "subscribe") else (),
    )


def _offers(capabilities: Mapping[str, Raw], name: str, what: str) -> bool:
    offered = capabilities.get(name)
    return offered is not None and is_object(offered) and members_of(offered).get(what) == _TRUE


def _flag(members: Mapping[str, Raw], name: str) -> bool:
    value = members.get(name, _FALSE)
    if value not in (_TRUE, _FALSE, NULL):
        raise InvalidParams(f"params.notifications.{name} must be a boolean")
    return value == _TRUE


def _uris(members: Mapping[str, Raw]) -> Sequence[str]:
    raw = members.get(URIS, NULL)
    found = () if raw == NULL else entries(raw)
    uris = [uri for entry in found or () if (uri := text(entry)) is not None]
    if found is None or len(uris) < len(found):
        raise InvalidParams(f"params.notifications.{URIS} must be a list of strings")
    return uris


# ---- to the modern client --------------------------------------------------------------------------------------------


def acknowledgement(id: bytes, interest: Interest) -> Message:
    """The first message of a subscription: what of it is honoured; ``id`` is the raw id of the listen."""
    return stamped(jsonrpc.notification(ACKNOWLEDGED, {"notifications": interest.notifications()}), id)


def stamped(message: Message, id: bytes) -> Message:
    """A notification as that of a subscription.

    :raises InvalidParams: its params, or their ``_meta``, are not an object
    """
    params = members_of(message.params)
    params[META] = raw_of({**members_of(params.get(META)), SUBSCRIPTION_ID: Raw(id)})
    return message.replace(params=raw_of(params))


def ended(id: bytes) -> Message:
    """The graceful end of a subscription."""
    return jsonrpc.result(id, {"resultType": COMPLETE, META: {SUBSCRIPTION_ID: Raw(id)}})
