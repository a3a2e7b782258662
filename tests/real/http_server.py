"""``python -m tests.real.http_server PORT…``: fixture servers over HTTP, in a process that can be killed.

With ``--told`` it says ``ready``, and serves when it is sent a line: a server that is there again at once.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack

import trio

from mcpgateway.testing.http import serve_fixture


async def main(*ports: int) -> None:
    async with AsyncExitStack() as serving:
        for port in ports:
            await serving.enter_async_context(serve_fixture(json=True, port=port))
        await trio.sleep_forever()


if __name__ == "__main__":
    if "--told" in sys.argv:
        print("ready", flush=True)
        sys.stdin.readline()
    trio.run(main, *[int(argument) for argument in sys.argv[1:] if argument != "--told"])
