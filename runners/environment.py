"""Files of environment variables, for what is started without a shell that has them: tokens, first of all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from mcpgateway.errors import ConfigError

_LINE: Final = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)").fullmatch


def read(path: Path) -> dict[str, str]:
    """The variables of a file: ``NAME=value`` lines, empty lines, and ``#`` comments on lines of their own.

    A value in one pair of quotes is what stands between them; otherwise it goes to the end of its line. Nothing is
    replaced in it. These are the files that systemd reads (``EnvironmentFile=``), but for lines that go on.

    :raises ConfigError: it cannot be read, or a line is none; the message has the line's number and not what it says
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as problem:
        raise ConfigError([f"{path}: cannot be read: {problem.strerror}"]) from None
    except UnicodeDecodeError as problem:
        raise ConfigError([f"{path}: not UTF-8 (byte {problem.start})"]) from None
    variables, problems = {}, []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        match = _LINE(stripped)
        if match is None:
            problems.append(f"{path}:{number}: expected NAME=value")
        else:
            variables[match["name"]] = _unquoted(match["value"])
    if problems:
        raise ConfigError(problems)
    return variables


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
