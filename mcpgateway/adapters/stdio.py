"""Servers that are child processes and speak over their standard input and output."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

import trio

from mcpgateway.adapters.base import Link, Offer, Receive
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.adapters.pipe_handshake import negotiate
from mcpgateway.config.model import StdioServer
from mcpgateway.errors import LAST_WORDS, ConfigError, GatewayError, ServerUnavailable
from mcpgateway.wire.children import GRACE, Child, Command, spawn
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.lines import LINE_LIMIT

_DRAIN: Final = 0.5
"""Seconds that the end of the child may come after the end of its output, or the other way round."""


class StdioAdapter:
    """Starts a command per link and speaks to it. All adapters of a gateway share its `Guard`."""

    def __init__(self, config: StdioServer, guard: Guard, *, grace: float = GRACE) -> None:
        _refuse_windows(sys.platform)
        env = {name: value.reveal() for name, value in config.env.items()}
        self._config = config
        self._command = Command(config.name, (config.command, *config.args), env, config.cwd)
        self._guard = guard
        self._grace = grace

    @property
    def server(self) -> str:
        return self._config.name

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        """Start the command and shake hands, in ``startup_timeout`` seconds; see `mcpgateway.adapters.base.Adapter`."""
        try:
            child = await spawn(nursery, self._command, self._guard)
        except OSError as problem:
            raise ServerUnavailable(self.server, self._explain(problem)) from None
        link = PipeLink(self.server, _Wire(child, self._grace), receive, pid=child.pid)
        nursery.start_soon(_listen, child, link, name=f"link {self.server} {child.pid}")
        try:
            with trio.move_on_after(self._config.startup_timeout) as startup:
                await negotiate(link, offer)
            if startup.cancelled_caught:
                raise ServerUnavailable(self.server, self._too_slow(child))
        except GatewayError:
            await link.aclose()
            raise
        except BaseException:
            link.broken("the connection attempt was cancelled")
            await child.terminate(grace=0)
            raise
        return link

    def _too_slow(self, child: Child) -> str:
        return with_last_words(f"did not shake hands within {self._config.startup_timeout:g} s", child)

    def _explain(self, problem: OSError) -> str:
        """Why a command could not be started, and what to do."""
        command, cwd = self._config.command, self._config.cwd
        if cwd is not None and not cwd.is_dir():
            return f"its working directory does not exist: {cwd}"
        path = self._command.env.get("PATH", os.environ.get("PATH"))
        if isinstance(problem, FileNotFoundError):
            if shutil.which(command, path=path) is not None:
                return f"{command} could not be started: the interpreter that its first line names does not exist"
            return f"command not found: {command}; " + (
                "is it on PATH?" if "/" not in command else "is the path right?"
            )
        return f"{command} could not be started: {problem.strerror or problem}"


class _Wire:
    """The way out to a child."""

    def __init__(self, child: Child, grace: float) -> None:
        self._child = child
        self._grace = grace
        self.put = child.stdin.put

    async def aclose(self) -> None:
        await self._child.terminate(self._grace)


async def _listen(child: Child, link: PipeLink) -> None:
    """Feed a link from its child until either ends; then say why, and see that both have."""
    reason = "the gateway gave it up"
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, child, nursery.cancel_scope)
            await _feed(child, link)
            nursery.cancel_scope.deadline = trio.current_time() + _DRAIN
        reason = with_last_words(child.status if child.exited.is_set() else "closed its output", child)
    finally:
        child.stdout.close()
        link.broken(reason)
    await child.terminate()


async def _watch(child: Child, both: trio.CancelScope) -> None:
    await child.exited.wait()
    both.deadline = trio.current_time() + _DRAIN  # a daemon that left the group may hold the output open for ever


async def _feed(child: Child, link: PipeLink) -> None:
    dropped = 0
    while (lines := await child.stdout.receive()) is not None:
        for line in lines:
            link.received(line)
        if child.stdout.dropped > dropped:
            dropped = child.stdout.dropped
            link.drop(f"a line longer than {LINE_LIMIT} bytes")


def with_last_words(what: str, child: Child) -> str:
    """A failure, with what the child last said on its standard error."""
    last = str(child.last_words)
    return f"{what}{LAST_WORDS}{last}" if last else what


def _refuse_windows(platform: str) -> None:
    if platform == "win32":
        raise ConfigError(
            ["stdio servers need process groups, which Windows has not; run the gateway in WSL, or use a URL"]
        )
