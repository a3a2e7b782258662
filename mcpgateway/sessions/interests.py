"""Who wants to hear what of a server: resource subscriptions counted by references, and log levels. Pure.

Sessions that share a link share one subscription at its server, and one log level, which is the most verbose that any
of them wants. A *channel* is what they share: a server and a link key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from mcpgateway.errors import TooBusy
from mcpgateway.protocol.levels import LEVELS as LEVELS  # the words of `LevelTable`, for those who use it
from mcpgateway.protocol.levels import passes as passes
from mcpgateway.protocol.uris import lies_below

MAX_SUBSCRIPTIONS: Final = 1000
"""Subscriptions that one session may have."""

MAX_URI: Final = 8 * 1024
"""Characters of a URI that can be subscribed to: it is kept as long as the session."""

ChannelT = TypeVar("ChannelT")
SessionT = TypeVar("SessionT")


class Subscriptions(Generic[ChannelT, SessionT]):
    """Which session subscribed to which URI of which channel, and under which name it knows that URI."""

    def __init__(self) -> None:
        self._channels: dict[ChannelT, dict[str, dict[SessionT, str]]] = {}
        self._of: dict[SessionT, set[tuple[ChannelT, str]]] = {}

    def __len__(self) -> int:
        """The subscriptions of all sessions."""
        return sum(map(len, self._of.values()))

    def check(self, session: SessionT) -> None:
        """Refuse one subscription more than a session may have.

        :raises TooBusy: it has `MAX_SUBSCRIPTIONS`
        """
        if len(self._of.get(session, ())) >= MAX_SUBSCRIPTIONS:
            raise TooBusy(f"the session has {MAX_SUBSCRIPTIONS} subscriptions")

    def anyone(self, channel: ChannelT, uri: str) -> bool:
        return uri in self._channels.get(channel, ())

    def uris(self, channel: ChannelT) -> dict[str, SessionT]:
        """What is subscribed to on a channel, each with one of those who did."""
        return {uri: next(iter(sessions)) for uri, sessions in self._channels.get(channel, {}).items()}

    def add(self, channel: ChannelT, uri: str, session: SessionT, shown: str) -> None:
        """Note a subscription; ``shown`` is the URI as the session's client knows it. Twice is once."""
        self._channels.setdefault(channel, {}).setdefault(uri, {})[session] = shown
        self._of.setdefault(session, set()).add((channel, uri))

    def remove(self, channel: ChannelT, uri: str, session: SessionT) -> bool:
        """Forget a subscription; whether it was the last to that URI."""
        sessions = self._channels.get(channel, {}).get(uri, {})
        if session not in sessions:
            return False
        del sessions[session]
        mine = self._of[session]
        mine.discard((channel, uri))
        if not mine:
            del self._of[session]
        if sessions:
            return False
        del self._channels[channel][uri]
        if not self._channels[channel]:
            del self._channels[channel]
        return True

    def drop(self, session: SessionT) -> list[tuple[ChannelT, str]]:
        """Forget a session; the subscriptions that nobody has any more."""
        mine = list(self._of.get(session, ()))
        return [(channel, uri) for channel, uri in mine if self.remove(channel, uri, session)]

    def entries(self) -> list[tuple[ChannelT, str, SessionT, str]]:
        """All subscriptions: the channel, the server's URI, the session, and the URI as its client knows it."""
        return [
            (channel, uri, session, shown)
            for channel, uris in self._channels.items()
            for uri, sessions in uris.items()
            for session, shown in sessions.items()
        ]

    def known_as(self, session: SessionT, shown: str) -> tuple[ChannelT, str] | None:
        """The channel and the server's URI of a subscription that the client knows under this URI."""
        for channel, uri in self._of.get(session, ()):
            if self._channels[channel][uri][session] == shown:
                return channel, uri
        return None

    def hearing(self, channel: ChannelT, uri: str) -> Iterator[tuple[SessionT, str]]:
        """Whom a change of a URI concerns, each once and with the URI as its client knows it.

        Who subscribed to a URI hears of what lies below it too (MCP, resources: the URI of an update may be that of a
        sub-resource).
        """
        subscribed = self._channels.get(channel, {})
        found: dict[SessionT, str] = dict(subscribed.get(uri, {}))
        for above, sessions in subscribed.items():
            if lies_below(uri, above):
                for session, shown in sessions.items():
                    found.setdefault(session, shown + uri[len(above) :])
        yield from found.items()


class LevelTable(Generic[ChannelT, SessionT]):
    """The log level that each session set, by channel."""

    def __init__(self) -> None:
        self._channels: dict[ChannelT, dict[SessionT, str]] = {}
        self._of: dict[SessionT, set[ChannelT]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def most_verbose(self, channel: ChannelT) -> tuple[str, SessionT] | None:
        """The level that the channel's server has to have, and one of those who want it."""
        wanted = self._channels.get(channel)
        if not wanted:
            return None
        session = min(wanted, key=lambda session: LEVELS[wanted[session]])
        return wanted[session], session

    def entries(self) -> list[tuple[ChannelT, SessionT, str]]:
        """What every session wants."""
        return [
            (channel, session, level)
            for channel, sessions in self._channels.items()
            for session, level in sessions.items()
        ]

    def level(self, channel: ChannelT, session: SessionT) -> str | None:
        return self._channels.get(channel, {}).get(session)

    def set(self, channel: ChannelT, session: SessionT, level: str) -> None:
        """Note what a session wants; a key of `LEVELS`."""
        self._channels.setdefault(channel, {})[session] = level
        self._of.setdefault(session, set()).add(channel)

    def unset(self, channel: ChannelT, session: SessionT) -> None:
        """Forget what a session wants of one channel."""
        if self._channels.get(channel, {}).pop(session, None) is None:
            return
        if not self._channels[channel]:
            del self._channels[channel]
        self._of[session].discard(channel)
        if not self._of[session]:
            del self._of[session]

    def drop(self, session: SessionT) -> list[ChannelT]:
        """Forget a session; its channels."""
        channels = list(self._of.get(session, ()))
        for channel in channels:
            self.unset(channel, session)
        return channels

    def hearing(self, channel: ChannelT, level: str | None) -> list[SessionT]:
        """The sessions that asked for messages of a level; one that no table knows is heard by all of them."""
        wanted = self._channels.get(channel, {})
        return [session for session, least in wanted.items() if passes(level, least)]
