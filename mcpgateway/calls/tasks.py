"""Tasks in merged namespaces: whose a task is.

Servers give their tasks ids, in both eras: the tasks of 2025-11-25, and the tasks extension of 2026-07-28. A table
remembers for each principal which server gave which id, because an id is all that protects a task: on a link that
several principals share, the server cannot tell them apart. So a task that the gateway does not remember (it was
restarted, or the task is one of the oldest of very many) is unknown, and so is anybody else's.

Ids pass as they are. Should two servers give one principal the same id, the second is shown as ``{server}:{id}``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Raw

from mcpgateway.catalog.naming import Target
from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import members_of, raw_of
from mcpgateway.protocol.translation.splicing import text

METHODS: Final = frozenset({"tasks/cancel", "tasks/get", "tasks/result", "tasks/update"})
"""What is asked about one task, in either era."""
EXTENSION: Final = "io.modelcontextprotocol/tasks"
RELATED: Final = "io.modelcontextprotocol/related-task"
"""The member of ``_meta`` that names the task which a 2025-11-25 message is about."""
REMEMBERED: Final = 10_000
"""Tasks remembered, of all principals together."""

_TASK: Final = Raw(b'"task"')


class Tasks:
    """The tasks of one namespace, by principal and exposed id; those asked about last are forgotten last."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._targets: dict[tuple[str, str], Target] = {}
        self._names: dict[tuple[str, Target], str] = {}

    def __len__(self) -> int:
        return len(self._targets)

    def learn(self, principal: str, target: Target) -> str:
        """Remember a task that a server gave to a principal; the id to show."""
        known = self._names.get((principal, target))
        if known is not None:
            return known
        shown = target.original
        while (principal, shown) in self._targets:
            shown = f"{target.server}:{shown}"
        if len(self._targets) >= self._limit:
            oldest = next(iter(self._targets))
            del self._names[oldest[0], self._targets.pop(oldest)]
        self._targets[principal, shown] = target
        self._names[principal, target] = shown
        return shown

    def find(self, principal: str, shown: str) -> Target:
        """Whose a task is, and the id that its server gave it.

        :raises InvalidParams: unknown, or another principal's
        """
        target = self._targets.pop((principal, shown), None)
        if target is None:
            raise InvalidParams(f"Unknown task: {shown[:200]}")
        self._targets[principal, shown] = target
        return target

    def shown(self, principal: str, target: Target) -> str | None:
        """The id under which a principal knows a server's task; ``None`` where it does not."""
        return self._names.get((principal, target))

    def respell(self, principal: str, server: str, members: dict[str, Raw]) -> None:
        """Put the ids that a principal knows into a result or params, in place, as members of which it may name a task.

        A result that makes a task is learned from.
        """
        task = members.get("task")
        if task is not None:  # CreateTaskResult (2025-11-25)
            inner = _object(task)
            if self._rename(principal, server, inner, learn=True):
                members["task"] = raw_of(inner)
        if "taskId" in members:
            self._rename(principal, server, members, learn=members.get("resultType") == _TASK)
        meta = _object(members.get("_meta"))
        related = _object(meta.get(RELATED))
        if self._rename(principal, server, related, learn=False):
            members["_meta"] = raw_of({**meta, RELATED: related})

    def _rename(self, principal: str, server: str, members: dict[str, Raw], *, learn: bool) -> bool:
        """Whether the member ``taskId`` was changed."""
        id = text(members.get("taskId"))
        if id is None:
            return False
        target = Target(server, id)
        shown = self.learn(principal, target) if learn else self.shown(principal, target)
        if shown is None or shown == id:
            return False
        members["taskId"] = raw_of(shown)
        return True

    def mine(self, principal: str, server: str, listed: Iterable[Raw]) -> list[Raw]:
        """Those of a server's listed tasks that are the principal's, under the ids it knows."""
        mine: list[Raw] = []
        for raw in listed:
            members = _object(raw)
            id = text(members.get("taskId"))
            if id is not None and self.shown(principal, Target(server, id)) is not None:
                mine.append(raw_of(members) if self._rename(principal, server, members, learn=False) else raw)
        return mine


def _object(raw: Raw | None) -> dict[str, Raw]:
    """The members of what should be an object; none of anything else, which is the server's mistake and passes."""
    try:
        return members_of(raw)
    except InvalidParams:
        return {}
