"""A demo server that keeps notes in memory, for as long as it runs: ``python -m mcpgateway.demo.notes``."""

from __future__ import annotations

from typing import Final

from mcpgateway.demo.server import Incoming, MiniServer, Tool, ToolError, serve_stdio, text_part
from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import Message

LIMIT: Final = 1000
"""Notes that are kept; adding more is refused."""
_SCHEME: Final = "notes://note/"
_NOTE: Final[JSON] = {
    "type": "object",
    "properties": {"uri": {"type": "string"}, "title": {"type": "string"}, "text": {"type": "string"}},
    "required": ["uri", "title", "text"],
}
_NOTES: Final[JSON] = {
    "type": "object",
    "properties": {"notes": {"type": "array", "items": _NOTE}},
    "required": ["notes"],
}


class Notes(MiniServer):
    """Tools ``add``, ``list`` and ``search``; a resource for each note; a prompt that sums them up."""

    name = "notes"
    instructions = "Keeps short notes for as long as it runs. Each note is also a resource, notes://note/{number}."
    notifies = ("resources",)

    def __init__(self) -> None:
        super().__init__()
        self._notes: dict[str, dict[str, JSON]] = {}
        self.tools = {
            "add": Tool(
                {
                    "title": "Add a note",
                    "description": "Keep a note under a title.",
                    "inputSchema": {
                        "type": "object",
                        "properties": {"title": {"type": "string"}, "text": {"type": "string"}},
                        "required": ["title", "text"],
                    },
                    "outputSchema": _NOTE,
                    "annotations": {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": False},
                },
                self._add,
            ),
            "list": Tool(
                {
                    "title": "List notes",
                    "description": "All notes, the oldest first.",
                    "inputSchema": {"type": "object"},
                    "outputSchema": _NOTES,
                    "annotations": {"readOnlyHint": True, "openWorldHint": False},
                },
                lambda arguments: {"notes": list(self._notes.values())},
            ),
            "search": Tool(
                {
                    "title": "Search notes",
                    "description": "The notes whose title or text contains a word, whatever its case.",
                    "inputSchema": {
                        "type": "object",
                        "properties": {"query": {"type": "string"}},
                        "required": ["query"],
                    },
                    "outputSchema": _NOTES,
                    "annotations": {"readOnlyHint": True, "openWorldHint": False},
                },
                self._search,
            ),
        }

    def call_tool(self, call: Incoming) -> list[Message]:
        before = len(self._notes)
        messages = super().call_tool(call)
        return messages if len(self._notes) == before else [*self.changed("resources"), *messages]

    def resources(self) -> list[JSON]:
        return [{"uri": uri, "name": note["title"], "mimeType": "text/plain"} for uri, note in self._notes.items()]

    def templates(self) -> list[JSON]:
        return [{"uriTemplate": f"{_SCHEME}{{number}}", "name": "note", "mimeType": "text/plain"}]

    def read(self, uri: str) -> list[JSON] | None:
        note = self._notes.get(uri)
        return None if note is None else [{"uri": uri, "mimeType": "text/plain", "text": note["text"]}]

    def prompts(self) -> list[JSON]:
        return [
            {
                "name": "summarize",
                "title": "Sum up the notes",
                "description": "Asks for a summary of all notes.",
                "arguments": [{"name": "style", "description": "brief or detailed", "required": False}],
            }
        ]

    def prompt(self, name: str, arguments: dict[str, JSON]) -> dict[str, JSON] | None:
        if name != "summarize":
            return None
        style = arguments.get("style", "brief")
        if not isinstance(style, str):
            raise InvalidParams("'style' must be a string")
        notes = "\n".join(f"- {note['title']}: {note['text']}" for note in self._notes.values())
        text = f"Write a {style} summary of these notes:\n{notes or '(there are none)'}"
        return {"messages": [{"role": "user", "content": text_part(text)}]}

    def _add(self, arguments: dict[str, JSON]) -> dict[str, JSON]:
        if len(self._notes) >= LIMIT:
            raise ToolError(f"there are {LIMIT} notes already")
        uri = f"{_SCHEME}{len(self._notes) + 1}"
        note: dict[str, JSON] = {"uri": uri, "title": _text(arguments, "title"), "text": _text(arguments, "text")}
        self._notes[uri] = note
        return note

    def _search(self, arguments: dict[str, JSON]) -> dict[str, JSON]:
        query = _text(arguments, "query").casefold()
        found = [note for note in self._notes.values() if query in f"{note['title']}\n{note['text']}".casefold()]
        return {"notes": [*found]}


def _text(arguments: dict[str, JSON], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise ToolError(f"{name!r} must be a string")
    return value


if __name__ == "__main__":
    serve_stdio(Notes())
