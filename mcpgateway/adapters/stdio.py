"""Servers that are child processes and speak over their standard input and output."""

from __future__ import annotations

import shutil
import sys
from typing import Final

import attrs
import trio

from mcpgateway.adapters.base import Link, Offer, Receive
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.adapters.pipe_handshake import negotiate
from mcpgateway.config.model import StdioServer
from mcpgateway.errors import LAST_WORDS, ConfigError, GatewayError, NotStarted, ServerUnavailable
from mcpgateway.wire.children import GRACE, Child, Command, spawn
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.lines import LINE_LIMIT
from mcpgateway.wire.login_path import LoginPath

_DRAIN: Final = 0.5
"""Seconds that the end of the child may come after the end of its output or input, so that the error can tell of it."""
_MANY: Final = 256
"""Lines that are handed on in one go, in a millisecond at most."""
_PAUSE: Final = 0.001
"""Seconds between two such lots of junk: a child that prints without end takes a quarter of a core, not all of it."""


class StdioAdapter:
    """Starts a command per link and speaks to it. All adapters of a gateway share its `Guard` and its `LoginPath`."""

    def __init__(
        self, config: StdioServer, guard: Guard, login_path: LoginPath | None = None, *, grace: float = GRACE
    ) -> None:
        _refuse_windows(sys.platform)
        env = {name: value.reveal() for name, value in config.env.items()}
        self._config = config
        self._command = Command(
            config.name, (config.command, *config.args), env, config.cwd, log_rate=config.stderr_lines
        )
        self._guard = guard
        self._login_path = login_path
        self._grace = grace

    @property
    def server(self) -> str:
        return self._config.name

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        """Start the command and shake hands, in ``startup_timeout`` seconds; see `mcpgateway.adapters.base.Adapter`."""
        command = await self._complete()
        try:
            child = await spawn(nursery, command, self._guard)
        except OSError as problem:
            raise NotStarted(self.server, _explain(command, problem)) from None
        link = PipeLink(self.server, _Wire(child, self._grace), receive, pid=child.pid)
        nursery.start_soon(_listen, child, link, self._grace, name=f"link {self.server} {child.pid}")
        try:
            with trio.move_on_after(self._config.startup_timeout) as startup:
                await negotiate(link, offer)
            if startup.cancelled_caught:
                raise ServerUnavailable(self.server, self._too_slow(child, link))
        except GatewayError:
            await link.aclose()
            raise
        except BaseException:
            link.broken("the connection attempt was cancelled")
            await child.terminate(grace=0)
            raise
        return link

    async def _complete(self) -> Command:
        """The command with the ``PATH`` of the login shell, where that is wanted and the server has none of its own."""
        if self._login_path is None or "PATH" in self._command.env:
            return self._command
        return attrs.evolve(self._command, path=await self._login_path.path())

    def _too_slow(self, child: Child, link: PipeLink) -> str:
        text = f"did not shake hands within {self._config.startup_timeout:g} s"
        if link.junk:
            text += ", and wrote on standard output what is no MCP; does it have to be told to use stdio?"
        return with_last_words(text, child)


def _explain(command: Command, problem: OSError) -> str:
    """Why a command could not be started, and what to do."""
    name, cwd = command.argv[0], command.cwd
    if cwd is not None and not cwd.is_dir():
        return f"its working directory does not exist: {cwd}"
    if isinstance(problem, FileNotFoundError):
        if shutil.which(name, path=command.environment().get("PATH")) is not None:
            return f"{name} could not be started: the interpreter that its first line names does not exist"
        if len(name.split()) > 1:
            return f"command not found: {name}; arguments belong in 'args'"
        return f"command not found: {name}; " + ("is it on PATH?" if "/" not in name else "is the path right?")
    return f"{name} could not be started: {problem.strerror or problem}"


class _Wire:
    """The way out to a child."""

    def __init__(self, child: Child, grace: float) -> None:
        self._child = child
        self._grace = grace
        self.put = child.stdin.put

    async def aclose(self) -> None:
        await self._child.terminate(self._grace)


async def _listen(child: Child, link: PipeLink, grace: float) -> None:
    """Feed a link from its child until either ends; then say why, and see that both have."""
    reason = "the gateway gave it up"
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_exit, child, nursery.cancel_scope)
            nursery.start_soon(_until_deaf, child, nursery.cancel_scope)
            await _feed(child, link)
            _end_soon(nursery.cancel_scope)
        # A daemon that left the group may hold the output open for ever; what the child has said is there.
        _hand_on(child.stdout.at_hand(), link)
        reason = with_last_words(_what_happened(child), child)
    finally:
        child.stdout.close()
        link.broken(reason)
    await child.terminate(grace)


async def _until_exit(child: Child, both: trio.CancelScope) -> None:
    await child.exited.wait()
    both.cancel(reason="the child has exited")


async def _until_deaf(child: Child, both: trio.CancelScope) -> None:
    await child.deaf.wait()
    _end_soon(both)


def _end_soon(both: trio.CancelScope) -> None:
    both.deadline = min(both.deadline, trio.current_time() + _DRAIN)


def _what_happened(child: Child) -> str:
    if child.exited.is_set():
        return child.status
    return child.stdin.failure or "closed its output"


async def _feed(child: Child, link: PipeLink) -> None:
    dropped = 0
    while (lines := await child.stdout.receive()) is not None:
        if len(lines) > _MANY:
            await _hand_on_slowly(lines, link)
        else:
            _hand_on(lines, link)
        lines.clear()  # or the longest of them would be kept until the next comes
        if child.stdout.dropped > dropped:
            dropped = child.stdout.dropped
            link.drop(f"a line longer than {LINE_LIMIT} bytes")


async def _hand_on_slowly(lines: list[bytes], link: PipeLink) -> None:
    """Hand on what may be a flood so that others have their turn meanwhile; one of junk has to wait, too.

    Cancelled, which is when the child has ended, it hands on all that is left.
    """
    done = 0
    try:
        while done < len(lines):
            junk = link.junk
            _hand_on(lines[done : done + _MANY], link)
            done += _MANY
            await trio.sleep(_PAUSE if link.junk > junk + _MANY // 2 else 0)
    finally:
        _hand_on(lines[done:], link)


def _hand_on(lines: list[bytes], link: PipeLink) -> None:
    for line in lines:
        link.received(line)


def with_last_words(what: str, child: Child) -> str:
    """A failure, with what the child last said on its standard error."""
    last = str(child.last_words)
    return f"{what}{LAST_WORDS}{last}" if last else what


def _refuse_windows(platform: str) -> None:
    if platform == "win32":
        raise ConfigError(
            ["stdio servers need process groups, which Windows has not; run the gateway in WSL, or use a URL"]
        )
