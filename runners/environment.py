"""Files of environment variables, for what is started without a shell that has them: tokens, first of all."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from io import StringIO
from pathlib import Path

from mcpgateway.config.expansion import expand_leniently
from mcpgateway.errors import ConfigError


def read(path: Path) -> dict[str, str]:
    """The variables of a file, as python-dotenv reads it: ``NAME=value`` lines, quotes, ``#`` comments, ``export``.
    Nothing is replaced in a value.

    :raises ConfigError: it cannot be read, or a line is none; the message has the line's number and not what it says
    """
    from dotenv.parser import parse_stream

    try:
        text = path.read_text("utf-8-sig")
    except OSError as problem:
        raise ConfigError([f"{path}: cannot be read: {problem.strerror}"]) from None
    except UnicodeDecodeError as problem:
        raise ConfigError([f"{path}: not UTF-8 (byte {problem.start})"]) from None
    bindings = list(parse_stream(StringIO(text)))
    wrong = [each.original.line for each in bindings if each.error or (each.key is not None and each.value is None)]
    if wrong:
        raise ConfigError([f"{path}:{line}: expected NAME=value" for line in wrong])
    return {each.key: each.value for each in bindings if each.key is not None and each.value is not None}


class Variables:
    """What files say, in the environment of this process, which its servers inherit. Read anew as often as one likes:
    what a file says no more is then as it was before."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._inherited = dict(environ)
        self._names: set[str] = set()

    def take(self, file: Path | None, *, dotenv: bool = False) -> None:
        """Let ``file`` win over what was inherited, and with ``dotenv`` both over ``.env`` in the working directory.

        What else has become of the environment since stays: what the runner took out is not for its children.

        :raises ConfigError: a file cannot be read; nothing has changed then
        """
        wanted = {**self._inherited, **(read(file) if file is not None else {})}
        if dotenv:
            wanted = with_dotenv(wanted)
        ours = {name: value for name, value in wanted.items() if self._inherited.get(name) != value}
        for name in self._names - ours.keys():
            if name in self._inherited:
                self._environ[name] = self._inherited[name]
            else:
                self._environ.pop(name, None)
        self._environ.update(ours)
        self._names = set(ours)


def with_dotenv(env: Mapping[str, str]) -> dict[str, str]:
    """An environment with the variables of ``.env`` in the working directory beside it, as ``mcp_pipe.py`` has it.

    :raises ConfigError: the file is there and cannot be read
    """
    try:
        text = Path(".env").read_text("utf-8-sig", errors="replace")
    except FileNotFoundError:
        return dict(env)
    except OSError as problem:
        raise ConfigError([f".env: cannot be read: {problem.strerror}"]) from None
    return joined(env, text)


def joined(env: Mapping[str, str], dotenv: str) -> dict[str, str]:
    """An environment with the variables beside it that the text of a ``.env`` file has; what is set already wins.

    Lines that are no variables are passed over, and ``${NAME}`` in a value is filled in.
    """
    from dotenv import dotenv_values

    found = dict(env)
    for name, value in dotenv_values(stream=StringIO(dotenv), interpolate=False).items():
        if value is not None and name not in found and _fits(name, value):
            found[name] = expand_leniently(value, found, bare=False)[0]
    return found


def _fits(name: str, value: str) -> bool:
    """Whether the system takes it as a variable; it takes nothing of a file in UTF-16."""
    return name != "" and "=" not in name and "\0" not in name + value
