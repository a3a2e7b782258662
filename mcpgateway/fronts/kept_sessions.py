"""Legacy sessions that outlive the connections of their client: those of an upstream.

A client that comes again and shakes hands with the same words finds its session as it left it, and with it the sessions
that servers keep for it. So do several agents behind one upstream, as self-hosted endpoints have them: each shakes
hands, and none ends what another has in flight.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs
from msgspec import Raw

from mcpgateway.calls.namespace import Namespace
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.store import Session, SessionStore

MOST: Final = 8
"""Sessions that are kept for one client; the one that was not shaken hands for longest goes."""


@attrs.frozen
class _Kept:
    caller: Caller
    session: Session
    result: Raw
    namespace: Namespace


class KeptSessions:
    """The sessions of one client, by the params of its handshake. Whoever made it closes it."""

    def __init__(self, sessions: SessionStore) -> None:
        self._sessions = sessions
        self._kept: dict[bytes, _Kept] = {}

    def find(self, params: bytes, namespace: Namespace) -> tuple[Caller, Raw] | None:
        """The client of a session that was opened with this handshake, and the ``InitializeResult`` that it had.

        There is none where the session has ended, or another configuration has put another namespace in its place.
        """
        kept = self._kept.pop(params, None)
        if kept is None:
            return None
        if kept.session.ended or kept.namespace is not namespace:
            self._retire(kept)
            return None
        if not kept.session.streams:  # nobody was there: what there was to tell is told by what is asked now
            while kept.session.outbox.take() is not None:
                pass
            kept.session.seen.clear()
        self._kept[params] = kept
        return kept.caller, kept.result

    def keep(self, params: bytes, caller: Caller, result: Raw, namespace: Namespace) -> None:
        """Keep the session of a caller, which has one."""
        assert caller.session is not None
        self._kept[params] = _Kept(caller, caller.session, result, namespace)
        if len(self._kept) > MOST:
            self._retire(self._kept.pop(next(iter(self._kept))))

    def _retire(self, kept: _Kept) -> None:
        kept.session.retire(partial(self._sessions.close, kept.session))

    def close(self) -> None:
        """End all of them."""
        for kept in self._kept.values():
            self._sessions.close(kept.session)
        self._kept.clear()
