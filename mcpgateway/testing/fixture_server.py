"""The server that `mcpgateway.testing.check_adapter` holds an adapter against.

``python -m mcpgateway.testing.fixture_server [--era legacy|modern|dual] [--silent]`` serves it over stdio; any other
transport wraps `FixtureServer.handle`, which is pure. There are no timers in it: what is to wait waits for another
message, so that a test of it never sleeps. Tools that take a ``count`` answer once they can count that many.

======================= ===============================================================================================
echo {text}             the text
slow {name}             answers when released, never when cancelled
release                 answers every slow call, then itself
waiting {count}         the names of the slow calls that wait
cancelled {count}       the names of the slow calls that were cancelled
heard {count}           the methods of the notifications received
echo_ids                the request ids seen so far, as JSON values
progress {n}            n notifications of progress, then the result
ask                     asks the client for its name (legacy: ``elicitation/create``, modern: ``input_required``) and
                        answers with the client's whole answer
fail                    a JSON-RPC error, with data
tool_error              a result with ``isError``
big {kib}               so many KiB of text
unknown                 members that no revision knows, numbers that floats cannot hold, and the params as received
notify                  tells that the list of tools changed
crash                   ends the process: ``boom`` on stderr, status 3
======================= ===============================================================================================
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar, Final

from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.demo.server import BOTH, Incoming, MiniServer, Tool, ToolError, serve_stdio, text_part
from mcpgateway.errors import JSON, GatewayError, InvalidParams
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol.revisions import Era

LAST_WORDS: Final = "boom"
EXIT_STATUS: Final = 3
UNKNOWN: Final = Raw(
    b'{"content":[{"type":"text","text":"?","x-part":{"deep":[1.0,null]}}],'
    b'"x-top":123456789012345678901234567890,"_meta":{"vendor.example/x":1.0}}'
)
"""What the tool ``unknown`` answers, beside ``received``; to be compared member by member, as bytes."""

_QUESTION: Final[dict[str, JSON]] = {
    "message": "Who are you?",
    "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}
_STATE: Final = "asked-once"


class Crashed(Exception):
    """The server is to die here; whoever wraps it says how."""


class Failure(GatewayError):
    """The error that the tool ``fail`` answers with: a code of no protocol."""

    code = 1234


class FixtureServer(MiniServer):
    """The fixture server. A test in the same process may look at its attributes."""

    name = "fixture"
    version = "1"
    notifies = ("tools",)

    def __init__(self, *, eras: Collection[Era] = BOTH) -> None:
        super().__init__(eras=eras)
        self.tools = dict.fromkeys(self._TOOLS, Tool({"inputSchema": {"type": "object"}}, _never))
        self.ids: list[Raw] = []
        """The ids of all requests, as they came."""
        self.slow: dict[bytes, Incoming] = {}
        """The slow calls that wait, by id."""
        self.cancelled: list[str] = []
        self.heard: list[str] = []
        self._asked: dict[bytes, Incoming] = {}
        self._questions = 0
        self._counting: list[tuple[Incoming, Callable[[], list[str]]]] = []

    def handle(self, message: Message) -> list[Message]:
        if message.is_request and message.id is not None:
            self.ids.append(Raw(message.id))
        return [*super().handle(message), *self._counted()]

    def answered(self, message: Message) -> list[Message]:
        call = self._asked.pop(message.id or b"null", None)
        if call is None:
            return []
        return [self.reply(call, {"content": [], "structuredContent": message.members})]

    def notified(self, message: Message) -> list[Message]:
        self.heard.append(message.method or "")
        if message.method == "notifications/cancelled":
            self.cancel(bytes(members_of(message.params).get("requestId", Raw(b"null"))))
        return super().notified(message)

    def cancel(self, id: bytes) -> None:
        """A request was cancelled; for transports that say so by other means than a notification."""
        call = self.slow.pop(id, None)
        if call is not None:
            self.cancelled.append(_name(call))

    def call_tool(self, call: Incoming) -> list[Message]:
        tool = self._TOOLS.get(call.text("name"))
        if tool is None:
            raise InvalidParams(f"no tool {call.text('name')!r}")
        return tool(self, call)

    def _counted(self) -> list[Message]:
        due = [(call, names()) for call, names in self._counting if len(names()) >= _number(call, "count")]
        answered = {call.id for call, _ in due}
        self._counting = [entry for entry in self._counting if entry[0].id not in answered]
        return [self._values(call, list(names)) for call, names in due]

    def _values(self, call: Incoming, values: list[JSON]) -> Message:
        return self.reply(call, {"content": [], "structuredContent": {"values": values}})

    def _text(self, call: Incoming, text: str) -> list[Message]:
        return [self.reply(call, {"content": [text_part(text)]})]

    # ---- the tools --------------------------------------------------------------------------------------------------

    def _echo(self, call: Incoming) -> list[Message]:
        return self._text(call, str(call.arguments().get("text", "")))

    def _slow(self, call: Incoming) -> list[Message]:
        self.slow[call.id] = call
        return []

    def _release(self, call: Incoming) -> list[Message]:
        released, self.slow = self.slow, {}
        done = [message for slow in released.values() for message in self._text(slow, _name(slow))]
        return [*done, *self._text(call, "released")]

    def _waiting(self, call: Incoming) -> list[Message]:
        self._counting.append((call, lambda: [_name(slow) for slow in self.slow.values()]))
        return []

    def _cancelled(self, call: Incoming) -> list[Message]:
        self._counting.append((call, lambda: self.cancelled))
        return []

    def _heard(self, call: Incoming) -> list[Message]:
        self._counting.append((call, lambda: self.heard))
        return []

    def _echo_ids(self, call: Incoming) -> list[Message]:
        return [self._values(call, [value_of(id) for id in self.ids])]

    def _progress(self, call: Incoming) -> list[Message]:
        token = members_of(call.params.get("_meta")).get("progressToken")
        total = _number(call, "n")
        steps = [] if token is None else range(1, total + 1)
        told = [
            jsonrpc.notification("notifications/progress", {"progressToken": token, "progress": step, "total": total})
            for step in steps
        ]
        return [*told, *self._text(call, f"{total} steps")]

    def _ask(self, call: Incoming) -> list[Message]:
        if call.era is Era.LEGACY:
            # Ids that an adapter is likely to use itself: a server's request is never taken for a reply.
            self._questions += 1
            id = b"%d" % self._questions
            self._asked[id] = call
            return [jsonrpc.request(id, "elicitation/create", _QUESTION)]
        if "inputResponses" in call.params:
            received = {name: call.params[name] for name in ("inputResponses", "requestState") if name in call.params}
            return [self.reply(call, {"content": [], "structuredContent": received})]
        questions = {"name": {"method": "elicitation/create", "params": _QUESTION}}
        return [self.reply(call, {"resultType": "input_required", "inputRequests": questions, "requestState": _STATE})]

    def _fail(self, call: Incoming) -> list[Message]:
        raise Failure("failed as asked", data={"why": "asked"})

    def _tool_error(self, call: Incoming) -> list[Message]:
        return [self.reply(call, {"content": [text_part("no")], "isError": True})]

    def _big(self, call: Incoming) -> list[Message]:
        return self._text(call, "x" * 1024 * _number(call, "kib"))

    def _unknown(self, call: Incoming) -> list[Message]:
        return [self.reply(call, {**members_of(UNKNOWN), "received": raw_of(call.params)})]

    def _notify(self, call: Incoming) -> list[Message]:
        return [*self.changed("tools"), *self._text(call, "told")]

    def _crash(self, call: Incoming) -> list[Message]:
        raise Crashed(LAST_WORDS)

    _TOOLS: ClassVar[Mapping[str, Callable[[FixtureServer, Incoming], list[Message]]]] = {
        "echo": _echo,
        "slow": _slow,
        "release": _release,
        "waiting": _waiting,
        "cancelled": _cancelled,
        "heard": _heard,
        "echo_ids": _echo_ids,
        "progress": _progress,
        "ask": _ask,
        "fail": _fail,
        "tool_error": _tool_error,
        "big": _big,
        "unknown": _unknown,
        "notify": _notify,
        "crash": _crash,
    }


def _never(arguments: dict[str, JSON]) -> dict[str, JSON]:
    raise ToolError("the fixture server runs its tools itself")


def _name(call: Incoming) -> str:
    return str(call.arguments().get("name", ""))


def _number(call: Incoming, name: str) -> int:
    value = call.arguments().get(name, 0)
    if not isinstance(value, int):
        raise InvalidParams(f"{name!r} must be an integer")
    return value


class _Silent(FixtureServer):
    def handle(self, message: Message) -> list[Message]:
        return []


def main(arguments: list[str] | None = None) -> None:
    """Serve over stdio, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m mcpgateway.testing.fixture_server", description="MCP fixture")
    parser.add_argument("--era", choices=("legacy", "modern", "dual"), default="dual")
    parser.add_argument("--silent", action="store_true", help="read everything, answer nothing")
    options = parser.parse_args(arguments)
    eras = BOTH if options.era == "dual" else {Era(options.era)}
    try:
        serve_stdio((_Silent if options.silent else FixtureServer)(eras=eras))
    except Crashed as problem:
        sys.stderr.write(f"{problem}\n")
        sys.exit(EXIT_STATUS)


if __name__ == "__main__":
    main()
