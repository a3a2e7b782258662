"""A whole gateway among servers that fail and clients that misbehave, in virtual time, and what must hold.

The gateway is the real one, from its HTTP connections down to pipes and sockets. `World` knows of every call what may
become of it, and checks that nothing else did.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio
import trio.testing

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Config, HttpServer, InProcessServer, Links, Listen, Recovery
from mcpgateway.fronts.http import HttpFront
from mcpgateway.fronts.upstreams import Upstreams
from mcpgateway.gateway import Gateway
from mcpgateway.wire.sse import Parser
from tests.chaos.clients import (
    PIPES,
    SERVERS,
    WEBS,
    Call,
    Client,
    answer_on,
    ask_on,
    message_of,
    receive,
    send,
)
from tests.chaos.clouds import CloudDouble
from tests.chaos.faults import Failing
from tests.chaos.http_server import HttpDouble
from tests.chaos.judge import SESSION_IDLE, Judge
from tests.chaos.network import Network
from tests.chaos.pipe_server import PipeDouble
from tests.fronts.site import LEGACY, notification, request
from tests.wire.http1.peers import Answers

TIMEOUT: Final = 5.0
RECOVERY: Final = 30.0
"""Seconds after which a server that was healed must be used again: the pause, a link that hangs, and a ping."""
LONGEST: Final = 40.0
"""Seconds within which every call is over, whatever happens: deadline, waiting for a link, one more attempt."""
LIST_TIMEOUT: Final = 2.0
CLOUDS: Final = 2
IDLE: Final = 20.0
STALL: Final = 45.0
"""Seconds for which a client does not read; the gateway closes its connection before."""


class Violated(AssertionError):
    """Something happened that must not."""


class World:
    """What the operations act upon. What is violated is told by the next `settle`."""

    def __init__(
        self,
        gateway: Gateway,
        front: HttpFront,
        nursery: trio.Nursery,
        failing: Mapping[str, Failing],
        pipes: Mapping[str, PipeDouble],
        webs: Mapping[str, HttpDouble],
        upstreams: Upstreams,
    ) -> None:
        self.gateway = gateway
        self.front = front
        self.nursery = nursery
        self.failing = failing
        self.pipes = pipes
        self.webs = webs
        self.upstreams = upstreams
        self.clouds: list[CloudDouble] = []
        self.clients: list[Client] = []
        self.calls: list[Call] = []
        self.violations: list[str] = []
        self.judge = Judge(failing, self.violated)
        self.seen: Counter[str] = Counter()
        """What became of calls, by kind: so that one can see that everything has happened."""

    def note(self, what: str) -> None:
        """Count something that has happened."""
        self.seen[what] += 1

    def violated(self, what: str) -> None:
        self.violations.append(f"at {trio.current_time():.2f}: {what}")

    async def settle(self) -> None:
        """Let everything happen that needs no time, and see that nothing was violated."""
        await trio.testing.wait_all_tasks_blocked()
        now = trio.current_time()
        for made in self.calls:
            if not made.over and not made.excused and made.kind != "listen" and now > made.began + LONGEST:
                self.violated(f"{made} hangs")
                made.excused = True
        if self.violations:
            raise Violated("\n".join(self.violations))

    def kill(self, name: str) -> None:
        """All connections of a server break, and its sessions are gone; it is there again, with the same faults."""
        self.failing[name].trouble()
        (self.pipes.get(name) or self.webs[name]).restart()

    def restart(self, name: str) -> None:
        self.kill(name)
        self.failing[name].heal(restarted=True)

    def configure(self, **keys: Any) -> None:
        """Have another configuration."""
        config = attrs.evolve(self.gateway.config, **keys)
        wanted = {upstream.name: upstream for upstream in config.upstreams}
        for cloud in self.clouds:
            cloud.change(wanted.get(cloud.name))
        self.gateway.reconfigure(config)
        self.upstreams.reconfigure(config.upstreams, config.shutdown_timeout)

    # ---- connections -------------------------------------------------------------------------------------------------

    def dial(self) -> socket.socket:
        """A connection of a client."""
        own, far = socket.socketpair()
        own.setblocking(False)
        self.nursery.start_soon(self.front.server.serve, self.gateway.poller.transport(far), "client")
        return own

    async def ask(self, client: Client, message: dict[str, Any]) -> tuple[int, dict[str, str], bytes] | None:
        """Send what has a short answer of its own; nothing if the connection ended without one."""
        sock = self.dial()
        try:
            return await ask_on(sock, client.url, message, client.headers)
        finally:
            sock.close()

    # ---- sessions ----------------------------------------------------------------------------------------------------

    async def open(self, client: Client) -> bool:
        """Have a session; whether there is one."""
        if client.modern or client.session is not None:
            return True
        began = trio.current_time()
        sock = self.dial()
        try:
            await self.send_initialize(sock, client)
            answer = await answer_on(sock)
        except OSError:
            answer = None
        finally:
            sock.close()
        if answer is None or answer[0] != 200:
            self.judge.excused(f"initialize of client {client.number}", client.servers, began, answer)
            return False
        client.session, client.since = answer[1]["mcp-session-id"], trio.current_time()
        client.used = client.since
        await self.ask(client, notification("notifications/initialized"))
        return True

    async def send_initialize(self, sock: socket.socket, client: Client) -> None:
        capabilities: dict[str, Any] = {"elicitation": {}} if client.askable else {}
        params = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "c", "version": "1"}}
        body = json.dumps(request(0, "initialize", params)).encode()
        await send(sock, f"POST {client.url}", body, client.headers)

    async def delete(self, client: Client) -> None:
        """End a session, if there is one, and all that is in flight in it."""
        if client.session is None:
            return
        for made in client.calls:
            made.excused = True
        sock = self.dial()
        try:
            await send(sock, f"DELETE {client.url}", b"", client.headers)
            if await answer_on(sock) is None:
                self.violated(f"DELETE of client {client.number} was not answered")
        finally:
            sock.close()
        client.session = None

    # ---- calls -------------------------------------------------------------------------------------------------------

    async def start(self, client: Client, kind: str, server: str) -> None:
        """Have a client make a call; it goes on by itself."""
        if not await self.open(client):
            return
        client.ids += 1
        servers = client.servers if kind in ("list", "listen") else (server,)
        made = Call(client, client.ids, kind, servers, trio.current_time())
        client.calls.append(made)
        self.calls.append(made)
        self.nursery.start_soon(self._perform, made)

    async def _perform(self, made: Call) -> None:
        client = made.client
        sock = made.connection = self.dial()
        try:
            if made.kind == "listen" and not client.modern:
                fields = {**client.headers, "Accept": "text/event-stream"}
                await send(sock, f"GET {client.url}", b"", fields)
            else:
                message, fields = message_of(made)
                await send(sock, f"POST {client.url}", json.dumps(message).encode(), fields)
            await self._receive(made, sock)
        except OSError:
            pass  # it was dropped by its client, or the gateway has closed it: what came is judged
        finally:
            sock.close()
        made.over = True
        client.calls.remove(made)
        self.seen[f"{made.kind} {made.outcome}"] += 1
        self.judge.judge(made)
        client.used = trio.current_time()

    async def _receive(self, made: Call, sock: socket.socket) -> None:
        """Take in the whole response, and answer what is asked on the way."""
        answers, parser, read = Answers(), Parser(), 0
        while not answers.done:
            if made.kind == "stall":
                made.excused = True
                with trio.move_on_after(STALL):
                    await made.dropped.wait()
            data = await receive(sock)
            if not data:
                return
            try:
                answers.feed(data)
            except Exception as problem:
                self.violated(f"{made} was answered with something that is not HTTP: {problem!r}")
                return
            body = answers.done[-1].body if answers.done else bytes(answers.body)
            headers = answers.done[-1].headers if answers.done else answers._headers
            if headers.get("content-type") == "text/event-stream":
                for frame in parser.feed(body[read:]):
                    if frame.data:
                        await self._message_came(made, json.loads(frame.data))
                read = len(body)
        (answer,) = answers.done
        made.status, made.ended = answer.status, True
        if answer.headers.get("content-type") == "application/json" and answer.body:
            await self._message_came(made, answer.json)

    async def _message_came(self, made: Call, message: dict[str, Any]) -> None:
        if "method" not in message:
            made.replies.append(message)
        elif "id" in message:
            await self._asked(made, message)
        else:
            made.events.append(message)

    async def _asked(self, made: Call, question: dict[str, Any]) -> None:
        client = made.client
        if not client.askable or made.kind not in ("ask", "listen"):
            self.violated(f"{made} was asked something: {question}")
            return
        result = {"action": "accept", "content": {"name": made.text}}
        await self.ask(client, {"jsonrpc": "2.0", "id": question["id"], "result": result})

    async def cancel(self, made: Call) -> None:
        """The client does not want it any more, and says so in the way of its era."""
        made.excused = True
        if made.client.modern or made.kind == "listen":
            self.drop(made)
        else:
            await self.ask(made.client, notification("notifications/cancelled", {"requestId": made.id}))

    def drop(self, made: Call) -> None:
        """The client's connection goes away."""
        made.excused = True
        made.dropped.set()
        if made.connection is not None and made.connection.fileno() >= 0:
            made.connection.shutdown(socket.SHUT_RDWR)

    async def _call_from(self, cloud: CloudDouble) -> None:
        """A cloud that is well is dialled, and its calls are answered."""
        if cloud.line is None:
            self.violated(f"{cloud} was not dialled again")
            return
        for server in cloud.line.client.servers:
            self.calls.append(await cloud.call(cloud.line, "echo", server))
        await trio.sleep(LONGEST)
        await self.settle()

    # ---- nothing is left ---------------------------------------------------------------------------------------------

    async def finish(self, before: Footprint) -> None:
        """Heal the servers, let the clients go, and see that everything works and nothing is left."""
        for name, failing in self.failing.items():
            if failing.hung:
                self.restart(name)
            failing.heal(restarted=False)
        for client in self.clients:
            for made in [*client.calls]:
                self.drop(made)
        for cloud in self.clouds:
            cloud.recover()
        await trio.sleep(LONGEST + RECOVERY)
        await self.settle()
        for number, server in enumerate(SERVERS):
            for era in (True, False):
                client = Client(1000 + number, server, modern=era, askable=False)
                await self.start(client, "echo", server)
                await trio.sleep(LONGEST)
                await self.settle()
                self.clients.append(client)
        for cloud in self.clouds:
            if cloud.config is not None:
                await self._call_from(cloud)
        self.configure(upstreams=())
        for client in self.clients:
            await self.delete(client)
        await trio.sleep(1.25 * SESSION_IDLE)  # of those that have lost theirs at a server
        await self.settle()
        for failure in leftovers(self.gateway):
            self.violated(failure)
        doubles: list[PipeDouble | HttpDouble] = [*self.pipes.values(), *self.webs.values()]
        for double in doubles:
            if double.holding:
                self.violated(f"{double.failing.name} was not told to cancel {double.holding} calls")
        if any(not made.over for made in self.calls):
            self.violated(f"not over: {[str(made) for made in self.calls if not made.over]}")
        more = footprint(self).beyond(before)
        if more:
            self.violated(f"more than before is left: {more}")
        await self.settle()


@attrs.frozen
class Footprint:
    """What a gateway at rest takes, its servers' idle connections left aside."""

    tasks: Counter[str]
    """By name."""
    descriptors: int
    links: int

    def beyond(self, other: Footprint) -> str:
        """What is more than there was before; empty if nothing is."""
        tasks = self.tasks - other.tasks
        more = [f"{count} tasks {name}" for name, count in tasks.items()]
        more += [f"{self.descriptors - other.descriptors} descriptors"] * (self.descriptors > other.descriptors)
        return ", ".join(more + [f"{self.links - other.links} links"] * (self.links > other.links))


def footprint(world: World) -> Footprint:
    connections = sum(len(double.connections) for double in world.webs.values())
    root = trio.lowlevel.current_root_task()
    assert root is not None
    tasks = Counter(task.name for task in _tasks(root))
    del tasks["tests.chaos.http_server.HttpDouble._connection"]
    links = sum(len(server.links) for server in world.gateway.statistics().servers)
    return Footprint(tasks, len(os.listdir("/proc/self/fd")) - 2 * connections, links)


def _tasks(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tasks(child)


def leftovers(gateway: Gateway) -> list[str]:
    """What a gateway without clients still has of them."""
    now = gateway.statistics()
    found = [f"{count} {what} left" for what, count in (("sessions", now.sessions), ("waits", now.waits)) if count]
    for server in now.servers:
        if server.waiting:
            found.append(f"{server.waiting} calls wait for a link to {server.name}")
        in_flight = sum(link.in_flight for link in server.links)
        if in_flight:
            found.append(f"{in_flight} calls in flight at {server.name}")
    leased = [slot for server in gateway.servers.values() for slot in server._links.slots if slot.calls or slot.alone]
    return [*found, *(f"{slot} is leased" for slot in leased)]  # a lease has no statistics of its own


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    """A world in which every server is up; for a run in virtual time."""
    network = Network()
    settings: dict[str, Any] = {
        "timeout": TIMEOUT,
        "max_timeout": 2 * TIMEOUT,
        "startup_timeout": 3.0,
        "links": Links(min=1, acquire_timeout=TIMEOUT, idle_timeout=IDLE),
        "recovery": Recovery(initial=0.5, maximum=4.0),
    }
    ports = {name: 9000 + number for number, name in enumerate(WEBS)}
    config = Config(
        listen=Listen(limits=Limits(session_idle_timeout=SESSION_IDLE)),
        servers={
            **{name: InProcessServer(name, module="object:given", **settings) for name in PIPES},
            **{
                name: HttpServer(name, url=f"http://127.0.0.1:{port}/mcp", connect_timeout=2.0, **settings)
                for name, port in ports.items()
            },
        },
        startup_wait=2.0,
        list_timeout=LIST_TIMEOUT,
    )
    failing = {name: Failing(name, RECOVERY) for name in SERVERS}
    pipes = {name: PipeDouble(failing[name]) for name in PIPES}
    gateway = Gateway(config, pipes)
    front = HttpFront(gateway, config.listen, _cold)
    with network.installed():
        async with trio.open_nursery() as servers:
            webs = {
                name: HttpDouble(failing[name], network, servers, port, streams=name == "web")
                for name, port in ports.items()
            }
            await servers.start(gateway.run)
            await gateway.ready()
            upstreams = Upstreams(gateway, lambda: None)
            servers.start_soon(upstreams.run)
            async with trio.open_nursery() as connections:
                front.server.nursery = connections
                world = World(gateway, front, connections, failing, pipes, webs, upstreams)
                for number in range(CLOUDS):
                    world.clouds.append(CloudDouble(number, network, servers, world.judge, world.violated, world.note))
                yield world
                connections.cancel_scope.cancel(reason="the story is over")
            await upstreams.drain(0.0)
            await gateway.aclose()
            servers.cancel_scope.cancel(reason="the story is over")


async def _cold(request: object, exchange: Any) -> None:
    await exchange.respond(404, b"{}")
