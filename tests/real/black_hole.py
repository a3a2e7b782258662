"""``python -m tests.real.black_hole PORT TARGET``: a TCP relay that swallows what it gets, once it is told to.

Reads modes from standard input, one a line, and writes each back when it is in force:

=========  ==============================================================================
good       everything goes to the port ``TARGET`` and back
connect    nobody can connect any more: what is sent to the port is never answered
headers    whatever comes is answered with the head of a response, and nothing more
body       whatever comes is answered with the head and half of the body
=========  ==============================================================================
"""

from __future__ import annotations

import socket
import sys
from functools import partial

import trio
import trio.testing

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
SWALLOWS = {"headers": HEAD, "body": HEAD + b'{"jsonrpc":"2.0","id":'}


class Relay:
    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target

    async def run(self, mode: str, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Be in a mode until the scope that this gives is cancelled; the connections of a mode end with it."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        with listener, trio.CancelScope() as scope:
            if mode == "connect":
                listener.listen(0)
                filling = self._fill()
                try:
                    task_status.started(scope)
                    await trio.sleep_forever()
                finally:
                    for sock in filling:
                        sock.close()
            listener.listen(64)
            stream = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            task_status.started(scope)
            await trio.serve_listeners(partial(self._serve, mode), [stream])

    def _fill(self) -> list[socket.socket]:
        """Take every place in the queue of the listener: the kernel drops whatever else wants to connect."""
        filling = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self._port))
            filling.append(sock)
        return filling

    async def _serve(self, mode: str, client: trio.SocketStream) -> None:
        try:
            async with client:
                if mode == "good":
                    await self._relay(client)
                else:
                    while await client.receive_some():
                        await client.send_all(SWALLOWS[mode])
                        await trio.sleep_forever()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _relay(self, client: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self._target) as server, trio.open_nursery() as nursery:

            async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                try:
                    async for data in source:
                        await sink.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                nursery.cancel_scope.cancel(reason="one side has ended")

            nursery.start_soon(copy, client, server)
            nursery.start_soon(copy, server, client)


async def main(port: int, target: int) -> None:
    relay = Relay(port, target)
    async with trio.open_nursery() as nursery:
        scope = await nursery.start(relay.run, "good")
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            scope.cancel(reason="another mode")
            await trio.testing.wait_all_tasks_blocked()
            scope = await nursery.start(relay.run, line.strip())
            print(line.strip(), flush=True)
        nursery.cancel_scope.cancel(reason="nobody gives modes any more")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]))
