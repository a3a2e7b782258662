"""Files of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpgateway.errors import ConfigError
from runners import environment


def test_what_a_file_may_hold(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "\ufeff# a comment\n\n"
        "MCP_ENDPOINT=wss://cloud.example/?token=a=b#c\r\n"
        'export KEY = "two words"\n'
        "ONE='$NOT_REPLACED ${NOR_THIS}'\n"
        "EMPTY=\n"
        "LAST=value # a remark"
    )

    assert environment.read(file) == {
        "MCP_ENDPOINT": "wss://cloud.example/?token=a=b#c",
        "KEY": "two words",
        "ONE": "$NOT_REPLACED ${NOR_THIS}",
        "EMPTY": "",
        "LAST": "value",
    }


def test_what_is_no_variable_is_told_by_line_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=1\nhunter2\nB='hunter2\n")

    with pytest.raises(ConfigError) as problem:
        environment.read(file)

    assert str(problem.value) == f"{file}:2: expected NAME=value\n{file}:3: expected NAME=value"


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_what_cannot_be_read_is_told(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"cannot be read: No such file|not UTF-8"):
        environment.read(file)
