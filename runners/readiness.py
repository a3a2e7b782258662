"""How a runner tells whoever started it that it is up: the datagram ``READY=1`` that systemd defined (sd_notify(3)).

The variable ``NOTIFY_SOCKET`` names a Unix socket, by its path or, where it begins with ``@``, in Linux's abstract
namespace. `taken` is the side of the runner, `Awaited` that of who starts one.
"""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Final, Self

log = logging.getLogger("mcpgateway")

VARIABLE: Final = "NOTIFY_SOCKET"
READY: Final = b"READY=1"
_MESSAGE: Final = 4096


def taken(environment: MutableMapping[str, str]) -> Callable[[], None]:
    """A function that says once that this process is up; it does nothing where nobody wants to know.

    The variable is taken out of the environment: children are not to speak in the name of the runner.
    """
    name = environment.pop(VARIABLE, "")

    def ready() -> None:
        if not name:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(READY, f"\0{name[1:]}" if name.startswith("@") else name)
        except OSError as problem:
            log.warning("nobody could be told that this process is up (%s: %s)", VARIABLE, problem.strerror)

    return ready


class Awaited:
    """A socket at which a runner says that it is up, in a directory that is nobody else's; a context manager."""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="mcp-gateway-")
        self.name: str = str(Path(self._directory.name) / "notify")
        """What ``NOTIFY_SOCKET`` has to be."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(self.name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def said(self, seconds: float) -> bool:
        """Whether the runner says so within these seconds."""
        self._socket.settimeout(seconds)
        try:
            return READY in self._socket.recv(_MESSAGE).split(b"\n")
        except TimeoutError:
            return False

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._directory.cleanup()
