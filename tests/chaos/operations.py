"""What may happen in a world, one operation each. To add one, write a function and enter it in `OPERATIONS`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, TypeAlias

import attrs
import trio
from wsproto.events import CloseConnection

from mcpgateway.config.model import HttpServer, InProcessServer, ServerConfig
from tests.chaos.clients import FRAGILE, KINDS, PATHS, SERVERS, Client, message_of
from tests.chaos.clouds import RUDENESSES, CloudDouble, Line, Mood
from tests.chaos.faults import FAULTS
from tests.chaos.world import World

Operation: TypeAlias = Callable[[World, Random], Awaitable[str]]
"""Does something, and says what. All that it leaves to chance comes from the `Random`."""


async def arrive(world: World, random: Random) -> str:
    """A new client."""
    era = random.random() < 0.4
    client = Client(len(world.clients), random.choice(list(PATHS)), era, askable=not era and random.random() < 0.5)
    world.clients.append(client)
    await world.open(client)
    return f"client {client.number} arrives at /{client.path} ({'modern' if era else 'legacy'})"


async def vanish(world: World, random: Random) -> str:
    """A client that goes away while it initialises."""
    client = Client(-1, random.choice(list(PATHS)), False, askable=False)
    sock = world.dial()
    await world.send_initialize(sock, client)
    for _ in range(random.randint(0, 30)):
        await trio.lowlevel.checkpoint()
    sock.close()
    return f"somebody vanishes from /{client.path}"


async def call(world: World, random: Random) -> str:
    """A client makes one to four calls at once."""
    if not world.clients:
        return await arrive(world, random)
    client = random.choice(world.clients)
    kinds = [random.choice(KINDS) for _ in range(random.randint(1, 4))]
    made = []
    for kind in kinds:
        server = random.choice(client.servers)
        if kind in ("hold", "ask", "stall") and server not in FRAGILE:
            kind = "echo"  # what ends at a deadline puts its server in trouble
        await world.start(client, kind, server)
        made.append(f"{kind} on {server}")
    return f"client {client.number} calls {', '.join(made)}"


async def fail(world: World, random: Random) -> str:
    """A server is going to fail at some moment."""
    name, fault, times = random.choice(FRAGILE), random.choice(FAULTS), random.choice((1, 1, 2, 1000))
    world.failing[name].arm(fault, times)
    return f"{name} {fault}, {times} times"


async def restart(world: World, random: Random) -> str:
    """A server dies and is there again at once."""
    name = random.choice(FRAGILE)
    world.restart(name)
    return f"{name} is restarted"


async def reload(world: World, random: Random) -> str:
    """The gateway is given a configuration in which one server is another; its calls in flight go on."""
    name, number = random.choice(SERVERS), random.randrange(10**6)
    config = world.gateway.config
    before = config.servers[name]
    server: ServerConfig
    if isinstance(before, HttpServer):
        server = attrs.evolve(before, url=f"{before.url.partition('?')[0]}?{number}")
        world.failing[name].trouble()  # the sessions that clients have with it are gone
    else:
        assert isinstance(before, InProcessServer)
        server = attrs.evolve(before, module=f"object:given{number}")
    world.configure(servers={**config.servers, name: server})
    return f"{name} is configured anew"


async def cancel(world: World, random: Random) -> str:
    """A client cancels a call in flight."""
    calls = [made for made in world.calls if not made.over and made.kind != "stall"]
    if not calls:
        return "nothing to cancel"
    made = random.choice(calls)
    await world.cancel(made)
    return f"{made} is cancelled"


async def drop(world: World, random: Random) -> str:
    """A client's connection goes away in the middle of a call."""
    calls = [made for made in world.calls if not made.over]
    if not calls:
        return "nothing to drop"
    made = random.choice(calls)
    world.drop(made)
    return f"{made} loses its connection"


async def delete(world: World, random: Random) -> str:
    """A client ends its session."""
    if not world.clients:
        return "nobody to leave"
    client = random.choice(world.clients)
    await world.delete(client)
    return f"client {client.number} ends its session"


async def twice(world: World, random: Random) -> str:
    """A client uses the id of a call in flight again."""
    calls = [made for made in world.calls if not made.over and not made.client.modern and made.kind == "hold"]
    if not calls:
        return "no id to use twice"
    client = random.choice(calls).client
    if client.session is None:
        return "its session has ended"
    made = next(made for made in client.calls if made.kind == "hold")
    message, _ = message_of(made)
    answer = await world.ask(client, message)
    if answer is not None and answer[0] == 200 and not made.over:
        world.violated(f"{made} was let in twice: {answer}")
    return f"client {client.number} uses the id {made.id} twice"


async def garbage(world: World, random: Random) -> str:
    """Somebody sends what is no request, in one or two pieces, and may stay or go."""
    sock = world.dial()
    sent = random.choice(_GARBAGE)
    sock.send(sent[: len(sent) // 2])
    await trio.testing.wait_all_tasks_blocked()
    try:
        sock.send(sent[len(sent) // 2 :])
    except OSError:
        pass
    if random.random() < 0.5:
        world.nursery.start_soon(_linger, sock)
    else:
        sock.close()
    return f"somebody sends {sent[:20]!r}"


_GARBAGE: Final = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 100\r\n\r\n{",
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Le",
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n[]",
    b"GET / HTTP/1.1\r\n\r\n",
)


async def _linger(sock: object) -> None:
    await trio.sleep(150)
    sock.close()  # type: ignore[attr-defined]


# ---- clouds ----------------------------------------------------------------------------------------------------------


async def dial(world: World, random: Random) -> str:
    """A cloud is configured, or otherwise than before."""
    cloud = random.choice(world.clouds)
    others = [upstream for upstream in world.gateway.config.upstreams if upstream.name != cloud.name]
    config = cloud.configured(random)
    world.configure(upstreams=(*others, config))
    return f"{cloud} is to be dialled for /{config.namespace}, {config.call_deadline}, {config.on_tools_changed.value}"


async def leave(world: World, random: Random) -> str:
    """A cloud is configured no more, and may be at once again."""
    before = world.gateway.config.upstreams
    if not before:
        return "there is no cloud to leave"
    gone = random.choice(before)
    world.configure(upstreams=tuple(upstream for upstream in before if upstream != gone))
    if random.random() < 0.5:
        return f"{gone.name} is not to be dialled any more"
    world.configure(upstreams=before)
    return f"{gone.name} goes and comes again"


async def sulk(world: World, random: Random) -> str:
    """A cloud is going to take it otherwise when it is dialled; its connection may end, so that it is."""
    cloud = random.choice(world.clouds)
    cloud.mood = random.choice(list(Mood))
    if random.random() < 0.5:
        cloud.disturb()
        for line in cloud.lines:
            line.cut()
    return f"{cloud} {cloud.mood.value}, and has {len(cloud.lines)} connections"


def _lines(world: World) -> list[tuple[CloudDouble, Line]]:
    return [(cloud, cloud.line) for cloud in world.clouds if cloud.line is not None]


async def ask(world: World, random: Random) -> str:
    """A cloud makes one to six calls at once."""
    lines = _lines(world)
    if not lines:
        return await dial(world, random)
    cloud, line = random.choice(lines)
    kinds = []
    for _ in range(random.randint(1, 6)):
        kind, server = random.choice(ASKED), random.choice(line.client.servers)
        if kind in ("hold", "ask") and server not in FRAGILE:
            kind = "echo"
        made = await cloud.call(line, kind, server)
        world.calls.append(made)
        kinds.append(f"{kind} on {server}")
        if random.random() < 0.1:
            await cloud.cancel(line, made)
            kinds.append("which is cancelled")
    return f"{cloud} calls {', '.join(kinds)}"


async def annoy(world: World, random: Random) -> str:
    """A cloud does something to its connection."""
    lines = _lines(world)
    if not lines:
        return "there is no cloud to be rude"
    cloud, line = random.choice(lines)
    what = random.choice([*RUDENESSES, *_ENDS])
    world.note(f"cloud: {what}")
    rudeness = RUDENESSES.get(what)
    if rudeness is not None:
        if not rudeness.lasts:
            cloud.disturb()
        await line.say(rudeness.sent)
        return f"{cloud} sends {what}"
    cloud.disturb()
    if what == "cuts it":
        line.cut()
    elif what == "closes half of it":
        line.half_close()
    elif what == "does not read":
        line.reads = trio.Event()
        world.nursery.start_soon(_resume, line, random.choice((0.5, 1.0, 30.0)))
    else:
        await line.say(CloseConnection(code=1000))
    return f"{cloud} {what}"


async def _resume(line: Line, seconds: float) -> None:
    await trio.sleep(seconds)
    line.reads.set()


_ENDS: Final = ("cuts it", "closes half of it", "does not read", "says goodbye")
ASKED: Final = ("echo", "echo", "progress", "ask", "notify", "hold", "big", "list")


async def wait(world: World, random: Random) -> str:
    """Time passes."""
    seconds = random.choice((0.01, 0.3, 1.0, 3.0, 10.0, 60.0))
    await trio.sleep(seconds)
    return f"{seconds:g} s pass"


OPERATIONS: Final[dict[Operation, int]] = {
    arrive: 2,
    call: 8,
    fail: 3,
    restart: 2,
    reload: 1,
    cancel: 1,
    drop: 2,
    delete: 1,
    vanish: 1,
    twice: 1,
    garbage: 1,
    wait: 4,
}
"""With how often each is chosen, in proportion."""
CLOUDY: Final[dict[Operation, int]] = {
    call: 2,
    fail: 2,
    restart: 2,
    reload: 1,
    wait: 5,
    dial: 3,
    leave: 1,
    sulk: 2,
    ask: 8,
    annoy: 4,
}
"""Those of stories in which most clients are clouds."""
