"""Servers that hold a pipe open for as long as they live, so that a test sees when the last of them has gone."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import POLL, let_run, marked

GIVE_UP = 30.0
"""Seconds after which a test has failed. What it waits for would never come: these servers live for minutes."""

SERVER = """
import os, runpy, signal, subprocess

hold = os.open(os.environ["HOLD"], os.O_WRONLY)
os.set_inheritable(hold, True)
subprocess.Popen(["sleep", "600"], pass_fds=[hold])
os.write(hold, b"up")
try:
    runpy.run_module("mcpgateway.testing.fixture_server", run_name="__main__")
finally:
    if os.environ["STUBBORN"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pause()
"""
"""The fixture server, and a grandchild; both hold a pipe open for as long as they live."""


def none_left(mark: str) -> bool:
    """Whether no process has a text in its environment, once those that were told to end have had their time."""
    deadline = time.monotonic() + GIVE_UP
    while marked(mark):
        if time.monotonic() > deadline:
            return False
        let_run(POLL)
    return True


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 at which nobody listens, and that nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        yield port


class Held:
    """A pipe that all servers of a test hold open: its end says that all are gone."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def server(self, *arguments: str, stubborn: bool = False) -> dict[str, object]:
        env = {"HOLD": str(self.path), "STUBBORN": "yes" if stubborn else ""}
        return {"command": sys.executable, "args": ["-c", SERVER, *arguments], "env": env}

    def wait_until_up(self) -> None:
        assert select.select([self._fd], [], [], GIVE_UP)[0], "no server has started"
        assert os.read(self._fd, 100).startswith(b"up")

    def gone(self) -> bool:
        """Whether nobody holds the pipe any more, once the system has had its time to end whoever was told to."""
        deadline = time.monotonic() + GIVE_UP
        while select.select([self._fd], [], [], max(deadline - time.monotonic(), 0))[0]:
            if not os.read(self._fd, 100):
                return True
        return False

    def close(self) -> None:
        os.close(self._fd)
