"""``python -m tests.soak.web`` serves the legacy fixture server over HTTP until it is killed, and says where."""

from __future__ import annotations

import trio

from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.http import serve_fixture


async def main() -> None:
    async with serve_fixture(eras=frozenset({Era.LEGACY})) as fixture:
        print(fixture.url, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
