"""Files of environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcpgateway.errors import ConfigError
from runners import environment
from runners.environment import Variables


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


@pytest.mark.requirement("6.config")
def test_a_variable_that_is_set_wins_over_the_file_even_if_empty() -> None:
    text = "MCP_ENDPOINT=wss://file\nEMPTY=file\nexport NEW='a b' # comment\n\nBROKEN\nQUOTED=\"x\\ny\"\n"

    found = environment.joined({"MCP_ENDPOINT": "wss://set", "EMPTY": ""}, text)

    assert found == {"MCP_ENDPOINT": "wss://set", "EMPTY": "", "NEW": "a b", "QUOTED": "x\ny"}


def test_what_the_system_takes_for_no_variable_is_passed_over() -> None:
    """A file in UTF-16, for one."""
    text = "A=b\n".encode("utf-16").decode("utf-8", "replace")

    assert environment.joined({}, text + "\n'B=C'=d\nE=f\0g\nH=i\n") == {"H": "i"}


def test_variables_of_the_file_may_name_others() -> None:
    found = environment.joined(
        {"TOKEN": "x$y"}, "HOST=example.com\nMCP_ENDPOINT=wss://${HOST}/?token=${TOKEN}&p=a$b${GONE:-c}\n"
    )

    assert found["MCP_ENDPOINT"] == "wss://example.com/?token=x$y&p=a$bc"


def test_without_a_file_the_environment_is_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = {"A": "b"}

    found = environment.with_dotenv(env)

    assert found == env
    assert found is not env


@pytest.mark.requirement("6.config")
def test_dotenv_may_change_but_the_environment_and_a_file_that_is_named_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"SET": "before", "HOME": "/"}
    variables = Variables(environ)

    seen = []
    for token in "one", "two":
        (tmp_path / ".env").write_text(f"TOKEN={token}\nKEY=in .env\nSET=in .env\n")
        (tmp_path / "named").write_text(f"KEY={token}\n")
        variables.take(Path("named"), dotenv=True)
        seen.append(dict(environ))

    assert seen == [{"SET": "before", "HOME": "/", "TOKEN": token, "KEY": token} for token in ("one", "two")]


def test_what_a_file_says_no_more_is_as_it_was_before(tmp_path: Path) -> None:
    """And what the runner has taken out since, the socket of who started it, does not come back."""
    environ = {"SET": "before", "NOTIFY_SOCKET": "/run/socket"}
    variables = Variables(environ)
    file = tmp_path / "named"
    file.write_text("SET=now\nKEY=new\n")
    variables.take(file)
    within = dict(environ)
    del environ["NOTIFY_SOCKET"]
    file.write_text("")

    variables.take(file)

    assert within == {"SET": "now", "KEY": "new", "NOTIFY_SOCKET": "/run/socket"}
    assert environ == {"SET": "before"}


def test_a_file_that_cannot_be_read_changes_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").mkdir()
    (tmp_path / "named").write_text("KEY=new\n")
    environ = {"SET": "before"}

    with pytest.raises(ConfigError, match=r"^\.env: cannot be read: Is a directory$"):
        Variables(environ).take(tmp_path / "named", dotenv=True)

    assert environ == {"SET": "before"}
