"""``{"mcpServers": {name: {…}}}``, as Claude Desktop, Cursor, VS Code, ``mcp_pipe.py`` and their kin write it.

What only concerns the client (``autoApprove``, window settings) is left out, with a warning.
"""

from __future__ import annotations

import re

import attrs

from mcpgateway.config import names
from mcpgateway.config.dialects.shapes import Dialect
from mcpgateway.config.dialects.translation import Notes, Translation
from mcpgateway.config.document import Node, legible

_KEYS = {
    **{key: key for key in ("command", "args", "env", "cwd", "url", "headers", "type", "enabled", "description")},
    "transport": "type",
    "transportType": "type",
    "serverUrl": "url",
    "httpUrl": "url",
    "disabled": "enabled",
    "timeout": "timeout",
}
"""A key of a desktop client's server, and the canonical one that it becomes."""

_ENV_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


class Desktop:
    """One translation."""

    def __init__(self) -> None:
        self._notes = Notes()

    def translate(self, root: Node) -> Translation:
        for key, node in root.entries.items():
            if key != "mcpServers":
                self._ignored(key, root, node)
        declared = root.entries["mcpServers"]
        servers = declared
        if isinstance(declared.value, dict):
            entries = dict(self._named(name, server) for name, server in declared.value.items())
            servers = attrs.evolve(declared, value=entries)
        root = attrs.evolve(root, value={"servers": servers})
        return Translation(root, Dialect.DESKTOP, self._notes.problems, self._notes.warnings)

    def _named(self, name: str, declared: Node) -> tuple[str, Node]:
        """A server under a name that it may have, which clients never asked for."""
        server, legal = self._server(declared), names.legal(name, "server")
        if legal != name and isinstance(server.value, dict):
            self._notes.odd(f"is called {legal!r} here, for {names.problem(name)}", declared)
            server = attrs.evolve(
                server, value={"title": Node(legible(name), declared.at, declared.line), **server.value}
            )
        return legal, server

    def _server(self, server: Node) -> Node:
        if not isinstance(server.value, dict):
            return server
        entries: dict[str, Node] = {}
        for key, node in server.value.items():
            canonical = _KEYS.get(key)
            if canonical is None:
                self._ignored(key, server, node)
            elif key == "timeout" and not isinstance(node.value, str):
                self._notes.odd('ignored: clients disagree about its unit; write it as text such as "30s"', node)
            else:
                translated = _translated(key, node)
                first = entries.setdefault(canonical, translated)
                if first.value != translated.value:
                    text = f"{first.at[-1]!r} and {key!r} contradict each other"
                    self._notes.wrong(text, attrs.evolve(server, line=node.line))
        return attrs.evolve(server, value=entries)

    def _ignored(self, key: str, parent: Node, node: Node) -> None:
        text = f"key {legible(key)!r} is ignored: it is a matter of the client"
        self._notes.odd(text, attrs.evolve(parent, line=node.line))


def _translated(key: str, node: Node) -> Node:
    if key == "disabled" and isinstance(node.value, bool):
        return attrs.evolve(node, value=not node.value)
    if key == "env" and isinstance(node.value, dict):
        node = attrs.evolve(node, value={name: _text(each) for name, each in node.value.items()})
    return _with_references(node)


def _text(node: Node) -> Node:
    """The value of a variable: clients take a whole number for text."""
    return attrs.evolve(node, value=str(node.value)) if type(node.value) is int else node


def _with_references(node: Node) -> Node:
    """``${env:VAR}``, as VS Code and Cursor write it, becomes ``${VAR}``."""
    match node.value:
        case str(text):
            return attrs.evolve(node, value=_ENV_REFERENCE.sub(r"${\1}", text))
        case list(items):
            return attrs.evolve(node, value=[_with_references(item) for item in items])
        case dict(entries):
            return attrs.evolve(node, value={key: _with_references(entry) for key, entry in entries.items()})
        case _:
            return node
