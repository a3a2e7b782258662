"""The how-tos are true: their configurations load, their commands and flags exist, both languages say the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpgateway.config import loading
from runners.__main__ import RUNNERS, main

HOW_TO = Path(__file__).resolve().parent.parent / "docs/how-to"
PAGES = ("run", "from-go", "xiaozhi", "from-go.zh", "xiaozhi.zh")
TRANSLATED = ("from-go", "xiaozhi")
ENVIRONMENT = dict.fromkeys(
    ("MCP_ENDPOINT", "LIVING_ROOM", "NURSERY", "HEATING_TOKEN"), "wss://cloud.example/mcp/?token=hunter2"
)


def text_of(page: str) -> str:
    return (HOW_TO / f"{page}.md").read_text()


def blocks(page: str) -> list[tuple[str, str]]:
    """The examples of a page, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text_of(page), flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[list[str]]:
    """What is typed in a page: in examples, and between backticks."""
    lines = [line for language, code in blocks(page) if language == "sh" for line in code.splitlines()]
    lines += re.findall(r"`(python -m [^`]+)`", text_of(page))
    yield from (shlex.split(line, comments=True) for line in lines)


CONFIGURATIONS = [
    pytest.param(code, language, id=f"{page}-{number}")
    for page in PAGES
    for number, (language, code) in enumerate(blocks(page))
    if language in ("yaml", "json")
]


@pytest.mark.requirement("6.docs")
@pytest.mark.parametrize(("code", "language"), CONFIGURATIONS)
def test_configurations_load(code: str, language: str) -> None:
    loaded = loading.loads(code, name="example", format=language, env=ENVIRONMENT)  # type: ignore[arg-type]  # one of both

    assert loaded.config.servers
    assert loaded.warnings == []
    assert "hunter2" not in repr(loaded)


@pytest.mark.requirement("6.docs")
@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_flags_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [words for words in commands(page) if "runners." in " ".join(words)]

    assert typed
    for words in typed:
        module, arguments = next(
            (word, words[at + 1 :]) for at, word in enumerate(words) if word.startswith("runners.")
        )
        runner = module.removeprefix("runners.")
        assert runner in RUNNERS, words
        helps = "".join(helped(each, capsys) for each in helpers(runner, arguments))
        flags = [word for word in arguments if re.match(r"--?[a-z]", word)]
        assert [flag for flag in flags if not re.search(rf"(^|[\s,\[])-?{flag}\b", helps)] == [], words


def helpers(runner: str, arguments: list[str]) -> Iterator[list[str]]:
    """Who has a flag: the runner, and whom it hands over to."""
    yield [runner, "--help"]
    if "-check" in arguments or arguments[:1] in (["check"], ["check-json"]):
        yield ["check", "--help"]
    if arguments[:1] == ["install"]:
        yield [runner, "install", "--help"]


def helped(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        main(words)
    return capsys.readouterr().out


@pytest.mark.requirement("6.docs")
@pytest.mark.parametrize("page", TRANSLATED)
def test_both_languages_have_the_same_examples_and_sections(page: str) -> None:
    english, chinese = text_of(page), text_of(f"{page}.zh")

    def shape(text: str) -> list[str]:
        """What begins each paragraph that is not plain text."""
        return [match[1] for match in re.finditer(r"^(#+|-|\||```\w*) ?", text, flags=re.MULTILINE)]

    assert blocks(page) == blocks(f"{page}.zh")
    assert shape(english) == shape(chinese)
    assert f"]({page}.zh.md)" in english
    assert f"]({page}.md)" in chinese
    assert re.search("[\u4e00-\u9fff]", chinese)


@pytest.mark.parametrize("page", PAGES)
def test_links_to_pages_lead_somewhere(page: str) -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text_of(page)) if not target.startswith("https:")]

    assert targets
    assert [target for target in targets if not (HOW_TO / target).exists()] == []


def test_everything_else_that_is_typed_is_known() -> None:
    """So that a command which is no runner of ours does not go unseen."""
    others = {words[0] for page in PAGES for words in commands(page) if words and "runners." not in " ".join(words)}

    assert others == {"docker", "systemctl", "journalctl", "python3", ".venv/bin/pip", "export"}
