"""The ``PATH`` of the user's login shell, for children of a gateway that was not started from a terminal.

What launchd, systemd or a desktop start has the system's bare ``PATH``: no Homebrew, no nvm, no ``~/.local/bin``, so
that ``npx`` and ``uvx`` are not found, though they are in every terminal of the user. The login shell knows; it is
asked once, and what it says only fills gaps. Files that shells read print greetings, start agents, wait for input or
never end: so the answer stands between two marks, the shell is a child like any other (its input is at its end, its
group is killed, the guard knows it), and it has a deadline.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

import trio

from mcpgateway.config.model import LoginShell, LoginShellMode
from mcpgateway.wire.children import Child, Command, spawn
from mcpgateway.wire.guard import Guard

log = logging.getLogger(__name__)

_MARK: Final = "mcpgateway-login-path"
_QUESTION: Final = f"echo {_MARK}; printenv PATH; echo {_MARK}"
"""In words that mean the same in every shell: fish and csh hold their PATH in ways of their own."""
_LONGEST: Final = 64 * 1024  # the kernel takes variables of twice that

_SYSTEM: Final = frozenset(
    f"{prefix}/{name}" for prefix in ("", "/usr", "/usr/local") for name in ("bin", "sbin", "games")
) | {"/snap/bin"}
_NO_SHELLS: Final = ("nologin", "false", "true", "sync", "shutdown", "halt")
_NO_LOGIN: Final = ("csh", "tcsh")
"""Their ``-l`` must be the only option."""


def is_wanted(mode: LoginShellMode, environ: Mapping[str, str]) -> bool:
    """Whether the login shell is to be asked.

    ``auto`` means: where no shell has been at work (no ``TERM``, no ``SHLVL``), and ``PATH`` has nothing but what the
    system puts there.
    """
    if mode is not LoginShellMode.AUTO:
        return mode is LoginShellMode.ALWAYS
    return "TERM" not in environ and "SHLVL" not in environ and _directories(environ) <= _SYSTEM


def _directories(environ: Mapping[str, str]) -> set[str]:
    return {directory.rstrip("/") for directory in environ.get("PATH", "").split(":")} - {""}


def question(shell: str) -> tuple[str, ...] | None:
    """The command that asks a shell for its ``PATH``; ``None`` for what stands in place of one in ``/etc/passwd``."""
    name = PurePath(shell).name
    if not name or name in _NO_SHELLS:
        return None
    return (shell, "-i", "-c", _QUESTION) if name in _NO_LOGIN else (shell, "-l", "-i", "-c", _QUESTION)


def filled(own: str, login: str) -> str:
    """``own`` with the directories of ``login`` behind it that it lacks. What is not absolute is left out."""
    directories = own.split(":") if own else []
    directories += [directory for directory in login.split(":") if directory.startswith("/")]
    return ":".join(dict.fromkeys(directories))


class Answer:
    """Finds the answer to `question` among what else a shell says. ``path`` is ``None`` until it is there."""

    def __init__(self) -> None:
        self.path: str | None = None
        self._marked = False
        self._said = ""

    def take(self, line: bytes) -> bool:
        """Take a line; whether it was the last of the answer."""
        text = os.fsdecode(line)
        if not self._marked:
            self._marked = text.endswith(_MARK)  # a greeting may end without a line break
        elif text.endswith(_MARK):
            self.path = self._said
        else:
            self._said = text
        return self.path is not None


class LoginPath:
    """What the children of a gateway have for ``PATH``. Whoever makes one runs `run` in a nursery of its own.

    The shell is asked by `run`, when a child first needs it, and never again.
    """

    def __init__(self, config: LoginShell, guard: Guard, environ: Mapping[str, str] = os.environ) -> None:
        self._config = config
        self._guard = guard
        self._environ = environ
        self._path: str | None = None
        self._needed = trio.Event()
        self._known = trio.Event()
        if not is_wanted(config.mode, environ):
            self._known.set()

    async def path(self) -> str | None:
        """The ``PATH`` for children, or ``None`` where the gateway's own will do. Waits while the shell is asked."""
        self._needed.set()
        await self._known.wait()
        return self._path

    async def run(self) -> None:
        """Ask the shell when it is needed, then return. A failure is a warning, and nothing else."""
        if self._known.is_set():
            return
        await self._needed.wait()
        try:
            login = await self._ask()
            if login is not None:
                self._path = filled(self._environ.get("PATH", os.defpath), login)
        finally:
            self._known.set()

    async def _ask(self) -> str | None:
        shell = self._environ.get("SHELL", "") or await trio.to_thread.run_sync(_shell_of_user)
        argv = question(shell)
        if argv is None:
            return None
        command = Command("login shell", argv, {"TERM": "dumb"}, line_limit=_LONGEST, log_level=logging.DEBUG)
        answer, problem = Answer(), ""
        async with trio.open_nursery() as nursery:
            try:
                child = await spawn(nursery, command, self._guard)
            except OSError as failure:
                problem = f"could not be started: {failure.strerror or failure}"
            else:
                problem = await self._listen(child, answer)
            nursery.cancel_scope.cancel(reason="the login shell has answered, or had its time")
        if problem:
            log.warning("children get the gateway's own PATH, for the login shell %s %s", shell, problem)
        return answer.path

    async def _listen(self, child: Child, answer: Answer) -> str:
        """Wait for the answer; returns what went wrong, or nothing. Daemons may hold the output open for ever."""
        try:
            child.stdin.close()
            with trio.move_on_after(self._config.timeout):
                while (lines := await child.stdout.receive()) is not None:
                    if any(answer.take(line) for line in lines):
                        return ""
                return "ended without telling its own"
            return f"did not tell its own within {self._config.timeout:g} s (login_shell.timeout)"
        finally:
            child.stdout.close()


def _shell_of_user() -> str:
    import pwd  # not on Windows

    try:
        return pwd.getpwuid(os.getuid()).pw_shell
    except KeyError:  # a container may run as a user that nobody has heard of
        return ""
