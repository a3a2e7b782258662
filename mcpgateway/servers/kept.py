"""The links that somebody listens to: kept while idle, made anew when lost, and what changes with that is said."""

from __future__ import annotations

from collections.abc import Callable

import trio

from mcpgateway.servers.ledger import LinkKey, Slot


class Kept:
    """The keys of one server that are to have a link, each with the link that its plain calls were last known to use.

    ``carrier`` tells which link that is now; ``relinked`` is called when it has become another one. The link of one
    client session is that session's to have made: it is only watched.
    """

    def __init__(self, carrier: Callable[[LinkKey], Slot | None], relinked: Callable[[LinkKey], None]) -> None:
        self._carrier = carrier
        self._relinked = relinked
        self._slots: dict[LinkKey, Slot | None] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, key: LinkKey, places: int | None) -> bool:
        """Keep the link of a key from now on, or as soon as a call has it made; idempotent.

        False where that is refused: of the ``places`` for links, one is left to other keys.
        """
        if key in self._slots:
            return True
        shared = sum(not kept.sessional for kept in self._slots)
        if not key.sessional and places is not None and shared >= max(1, places - 1):
            return False
        self._note(key, self._carrier(key))
        return True

    def discard(self, key: LinkKey) -> None:
        carrier = self._slots.pop(key, None)
        if carrier is not None:
            carrier.kept = False
            carrier.idle_since = trio.current_time()

    def discard_owner(self, owner: str) -> None:
        for key in [key for key in self._slots if key.owner == owner]:
            self.discard(key)

    def absent(self) -> LinkKey | None:
        """A key whose link was lost and is to be made anew."""
        for key, before in self._slots.items():
            if before is not None and not key.sessional and self._carrier(key) is None:
                return key
        return None

    def check(self) -> None:
        """Look whether plain calls of a key meet on another link than before, and say so if they do."""
        for key, before in list(self._slots.items()):
            carrier = self._carrier(key)
            if carrier is not None and carrier is not before:
                self._note(key, carrier)
                if before is not None:
                    before.kept = False
                    self._relinked(key)

    def _note(self, key: LinkKey, carrier: Slot | None) -> None:
        self._slots[key] = carrier
        if carrier is not None:
            carrier.kept = True
