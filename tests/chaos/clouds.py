"""Clouds that the gateway dials: one more kind of client, which also chooses how it takes being dialled.

A cloud knows what must not happen to it: a second connection beside its first, an attempt sooner than the formula has
it, an end that nobody has caused, an answer that is nobody's.
"""

from __future__ import annotations

import enum
import json
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final

import attrs
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Request, TextMessage
from wsproto.utilities import ProtocolError

from mcpgateway.config.model import Keepalive, OnToolsChanged, Reconnect, Secret, UpstreamConfig
from mcpgateway.fronts.dialling import JITTER
from tests.chaos.clients import Call, Client, message_of
from tests.chaos.judge import Judge
from tests.chaos.network import Network
from tests.fronts.site import notification, request

TERMS: Final = Reconnect(initial=0.5, maximum=8.0, stable=10.0, refused=12.0)
KEEPALIVE: Final = Keepalive(5.0, 2.0)
DEADLINE: Final = 3.0
"""Seconds of ``call_deadline``, where a cloud has one."""
REVISIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
_ENDED: Final = "is being ended"


class Mood(enum.Enum):
    """How a cloud takes being dialled."""

    WELCOMES = "welcomes who dials"
    UNREACHABLE = "is not there"
    HANGS = "does not accept"
    SILENT = "does not answer the handshake"
    LEAVES = "hangs up in the handshake"
    REFUSES = "refuses the token"
    FAILS = "answers with HTTP 500"
    JUNK = "answers with no HTTP"
    UNWELCOME = "closes with code 4004"


_ANSWERS: Final = {
    Mood.REFUSES: b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
    Mood.FAILS: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno",
    Mood.JUNK: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    Mood.LEAVES: b"HTTP/1.1 101 Switching",
}


class Line:
    """One connection of a cloud: a client as long as it lasts."""

    def __init__(self, sock: socket.socket, client: Client) -> None:
        self.client = client
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.open = False
        self.ready = False
        """Hands are shaken."""
        self.expected = False
        """It may end at any time, and its calls may fail: somebody has done something to it."""
        self.reads = trio.Event()
        self.reads.set()
        self.settled = False
        """What pause is due after it is known."""
        self.code: int | None = None
        """The gateway's goodbye."""
        self.calls: dict[int, Call] = {}
        self.answered: set[int] = set()
        self.opened = trio.current_time()
        self._sending = trio.StrictFIFOLock()
        self._parts: list[str] = []

    @property
    def gone(self) -> bool:
        """Whether the gateway has closed its end, seen or not."""
        if self.stream.socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self.stream.socket.fileno(), 0)
        return any(found & select.POLLHUP for _, found in poll.poll(0))

    async def say(self, event: Event | bytes) -> None:
        """Send a frame, or any bytes."""
        async with self._sending:
            try:
                await self.stream.send_all(event if isinstance(event, bytes) else self.protocol.send(event))
            except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError):
                pass  # whoever reads finds out

    async def send(self, message: dict[str, Any]) -> None:
        await self.say(TextMessage(data=json.dumps(message)))

    def cut(self) -> None:
        """End without a word."""
        if self.stream.socket.fileno() >= 0:
            with suppress(OSError):
                self.stream.socket.shutdown(socket.SHUT_RDWR)

    def half_close(self) -> None:
        """Send nothing more, and read on."""
        with suppress(OSError):
            self.stream.socket.shutdown(socket.SHUT_WR)

    def text(self, event: TextMessage) -> Any:
        """A message, once it is whole."""
        self._parts.append(event.data)
        if not event.message_finished:
            return None
        parts, self._parts = self._parts, []
        return json.loads("".join(parts))


def _pause(failures: int) -> float:
    """The shortest pause after so many failures in a row, and one more."""
    pause: float = min(TERMS.initial * TERMS.multiplier**failures, TERMS.maximum)
    return pause * (1 - JITTER)


class CloudDouble:
    """A cloud at an upstream's endpoint. Its connections live in ``nursery``."""

    def __init__(
        self,
        number: int,
        network: Network,
        nursery: trio.Nursery,
        judge: Judge,
        violated: Callable[[str], None],
        seen: Callable[[str], None],
    ) -> None:
        self.name = f"cloud {number}"
        self.number = number
        self.mood = Mood.WELCOMES
        self.config: UpstreamConfig | None = None
        """What the gateway is configured with; nothing at first."""
        self.lines: list[Line] = []
        self._nursery = nursery
        self._judge = judge
        self._violated = violated
        self._seen = seen
        self._port = 9100 + number
        self._clients = 0
        self._began: float | None = None
        """When the last attempt began; ``None`` where the next one may come at any time."""
        self._failures = 0
        self._least = 0.0
        network.listening[self._port] = self._accept

    def __str__(self) -> str:
        return self.name

    @property
    def line(self) -> Line | None:
        """The connection on which calls can be made."""
        return next((line for line in self.lines if line.ready and not line.expected), None)

    def configured(self, random: Random) -> UpstreamConfig:
        """Terms under which it may be dialled."""
        return UpstreamConfig(
            self.name,
            Secret(f"ws://127.0.0.1:{self._port}/mcp/?token={random.randrange(10**9)}"),
            random.choice(("", "safe", "sound", "pipe", "web")),
            connect_timeout=2.0,
            reconnect=TERMS,
            keepalive=KEEPALIVE,
            call_deadline=random.choice((None, DEADLINE)),
            on_tools_changed=random.choice(list(OnToolsChanged)),
            message_bytes=100_000,
        )

    def change(self, config: UpstreamConfig | None) -> None:
        """The gateway is going to have this configuration."""
        if config != self.config:
            self.config, self._began, self._failures = config, None, 0
            self.disturb()
            for line in self.lines:
                line.settled = True

    def disturb(self) -> None:
        """Whatever becomes of the connections that there are is in order."""
        for line in self.lines:
            line.expected = True
            for made in line.calls.values():
                made.excused = True

    def recover(self) -> None:
        """Be well: welcome whoever dials, and have no connection that is odd."""
        self.mood = Mood.WELCOMES
        self.disturb()
        for line in self.lines:
            line.reads.set()
            line.cut()

    # ---- being dialled -----------------------------------------------------------------------------------------------

    async def _accept(self) -> socket.socket:
        now = trio.current_time()
        if self.config is None:
            self._violated(f"{self} was dialled, and is configured no more")
        for line in self.lines:
            self._settle(line, refused=False)
        if any(not line.gone for line in self.lines):
            self._violated(f"{self} was dialled beside the connection that it has")
        if self._began is not None and now - self._began < self._least - 1e-6:
            self._violated(f"{self} was dialled after {now - self._began:.2f} s, too soon by {self._least:.2f} s")
        self._began, self._least = now, _pause(self._failures)
        self._failures += 1
        self._seen(f"a cloud {self.mood.value}")
        if self.mood is Mood.UNREACHABLE:
            raise ConnectionRefusedError(111, "Connection refused")
        if self.mood is Mood.HANGS:
            await trio.sleep_forever()
        far, own = socket.socketpair()
        random = Random(self._clients)
        self._clients += 1
        path = "" if self.config is None else self.config.namespace
        client = Client(5000 + self.number, path, random.random() < 0.3, askable=random.random() < 0.5)
        client.since = now
        self._nursery.start_soon(self._live, Line(own, client), self.mood, random.choice(REVISIONS))
        return far

    def _settle(self, line: Line, *, refused: bool) -> None:
        """Note what pause is due after a connection, if it was the last one."""
        if line.settled or self._began is None:
            return
        line.settled = True
        if trio.current_time() - line.opened > TERMS.stable - 0.1:
            self._failures, self._least = 1, _pause(0)
        elif refused:
            self._least = max(self._least, TERMS.refused)

    async def _live(self, line: Line, mood: Mood, revision: str) -> None:
        self.lines.append(line)
        refused = False
        try:
            async with trio.open_nursery() as own:
                refused = await self._converse(line, mood, revision, own)
                own.cancel_scope.cancel(reason="the connection has ended")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.lines.remove(line)
            await trio.aclose_forcefully(line.stream)
        self._settle(line, refused=refused)
        if line.ready and not line.expected and not (line.code == 1001 and self._reconnects(line)):
            self._violated(f"{self} has lost its connection, and nobody has done anything")
        for made in line.calls.values():
            made.excused = True
            self._over(made)
        line.calls.clear()

    async def _converse(self, line: Line, mood: Mood, revision: str, own: trio.Nursery) -> bool:
        """Whether it ended because the gateway was told that it is not welcome."""
        while True:
            await line.reads.wait()
            data = bytes(await line.stream.receive_some(1 << 16))
            line.protocol.receive_data(data or None)
            for event in line.protocol.events():
                if isinstance(event, Request):
                    if mood is Mood.SILENT:
                        while await line.stream.receive_some(1 << 16):
                            pass
                        return False
                    if mood in _ANSWERS:
                        await line.stream.send_all(_ANSWERS[mood])
                        return mood is Mood.REFUSES
                    await line.say(AcceptConnection())
                    line.open = True
                    if mood is Mood.UNWELCOME:
                        line.expected = True
                        await line.say(CloseConnection(code=4004, reason="Internal server error"))
                    else:
                        own.start_soon(self._introduce, line, revision)
                elif isinstance(event, Ping):
                    await line.say(event.response())
                elif isinstance(event, TextMessage):
                    message = line.text(event)
                    if message is not None:
                        await self._came(line, message)
                elif isinstance(event, CloseConnection):
                    line.code = event.code
                    await line.say(event.response())
                    return mood is Mood.UNWELCOME
            if not data:
                return False

    async def _introduce(self, line: Line, revision: str) -> None:
        if line.client.modern:
            line.ready = True
            return
        capabilities: dict[str, Any] = {"elicitation": {}} if line.client.askable else {}
        params = {
            "protocolVersion": revision,
            "capabilities": capabilities,
            "clientInfo": {"name": "c", "version": "1"},
        }
        await line.send(request("hello", "initialize", params))

    # ---- calls -------------------------------------------------------------------------------------------------------

    async def call(self, line: Line, kind: str, server: str) -> Call:
        client = line.client
        client.ids += 1
        servers = client.servers if kind == "list" else (server,)
        made = Call(client, client.ids, kind, servers, trio.current_time())
        line.calls[made.id] = made
        message, _ = message_of(made)
        await line.send(message)
        return made

    async def cancel(self, line: Line, made: Call) -> None:
        made.excused = True
        await line.send(notification("notifications/cancelled", {"requestId": made.id}))
        line.calls.pop(made.id, None)
        self._over(made)

    def _over(self, made: Call) -> None:
        made.over = made.ended = True
        self._seen(f"cloud: {made.kind} {made.outcome}")
        self._judge.judge(made)

    async def _came(self, line: Line, message: Any) -> None:
        if "method" not in message:
            await self._answered(line, message)
        elif "id" in message:
            made = next((made for made in line.calls.values() if made.kind == "ask"), None)
            if not line.client.askable or line.client.modern:
                self._violated(f"{self} was asked something: {message}")
            elif made is not None:
                answer = {"action": "accept", "content": {"name": made.text}}
                await line.send({"jsonrpc": "2.0", "id": message["id"], "result": answer})
        elif message["method"] == "notifications/progress":
            for made in line.calls.values():
                if made.text == message["params"]["progressToken"]:
                    made.events.append(message)

    async def _answered(self, line: Line, message: Any) -> None:
        id = message.get("id")
        if id == "hello":
            await self._introduced(line, message)
            return
        made = line.calls.pop(id, None)
        if made is None:
            if id is not None and id in line.answered:
                self._violated(f"{self} was answered twice: {message}")
            return
        line.answered.add(id)
        made.replies.append(message)
        text = str(message)
        if "call_deadline" in text:
            late = trio.current_time() - made.began
            if abs(late - DEADLINE) > 0.01:
                self._violated(f"{made} was given up after {late:.2f} s")
            if made.kind not in ("hold", "ask") and not self._judge.troubled(made.servers, made.began):
                self._violated(f"{made} was given up although its servers were well")
            made.excused = True
            made.replies = [{"jsonrpc": "2.0", "id": id, "error": {"code": 0, "message": text}}]
        elif line.expected or (_ENDED in text and self._reconnects(line)):
            made.excused = True
        self._over(made)

    def _reconnects(self, line: Line) -> bool:
        """Whether it may be dialled anew because tools have changed."""
        if self.config is None or self.config.on_tools_changed is not OnToolsChanged.RECONNECT:
            return False
        line.expected = True
        return True

    async def _introduced(self, line: Line, message: Any) -> None:
        if "error" in message:
            self._judge.excused(f"initialize of {self}", line.client.servers, line.opened, message["error"])
            line.expected = True
            await line.say(CloseConnection(code=1000))
            return
        line.client.session, line.ready = "its own", True
        line.client.since = trio.current_time()
        await line.send(notification("notifications/initialized"))


# ---- what a cloud may do to a connection -----------------------------------------------------------------------------


@attrs.frozen
class Rudeness:
    """Bytes that a cloud sends, and whether the connection outlives them."""

    sent: bytes
    lasts: bool


RUDENESSES: Final[dict[str, Rudeness]] = {
    "a flood of pings": Rudeness(b"\x89\x02hi" * 2000, True),
    "frames in bytes": Rudeness(b"\x82\x04\x00\x01\x02\x03" * 30, True),
    "pieces of bytes": Rudeness(b"\x02\x01\x00" + b"\x00\x01\x00" * 50 + b"\x80\x00", True),
    "JSON that is none": Rudeness(b"\x81\x05hello", True),
    "no JSON-RPC": Rudeness(b"\x81\x02{}" * 50, True),
    "an answer to nothing": Rudeness(b"\x81\x26" + b'{"jsonrpc":"2.0","id":77,"result":{}} ', True),
    "a ping within a message": Rudeness(b"\x01\x01{\x89\x00\x80\x01}", True),
    "a huge frame": Rudeness(b"\x81\x7f\x00\x00\x00\x7f\xff\xff\xff\xff" + b" " * 150_000, False),
    "a compressed frame": Rudeness(b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00", False),
    "a control frame in parts": Rudeness(b"\x09\x01x\x80\x01y", False),
    "a long control frame": Rudeness(b"\x89\x7e\x00\x7e" + b"x" * 126, False),
    "a frame of no kind": Rudeness(b"\x83\x00", False),
    "half a frame": Rudeness(b"\x81\x7e\xff\xff{", False),
    "junk": Rudeness(b"GET / HTTP/1.1\r\n\r\n", False),
}
"""By name. Half a frame leaves whatever is sent behind it without sense."""
