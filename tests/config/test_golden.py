"""Configurations beside what becomes of them: ``.errors``, or ``.expected.json`` with ``.warnings`` if there are any.

``python tests/config/test_golden.py`` writes the results anew, to be read before they are committed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcpgateway.config.explain import describe
from mcpgateway.config.loading import format_of, loads
from mcpgateway.config.model import Reconnect
from mcpgateway.errors import ConfigError

GOLDEN = Path(__file__).parent / "golden"
RESULTS = (".errors", ".warnings", ".expected.json")
INPUTS = sorted(path for path in GOLDEN.iterdir() if not path.name.endswith(RESULTS))
ENV = {
    "HOME": "/home/me",
    "TOKEN": "hidden",
    "PORT": "8443",
    "YES": "true",
    "TIMEOUT": "5s",
    "EMPTY": "",
    "MCP_ENDPOINT": "wss://api.example.com/mcp/?token=hidden",
    "QUOTED": """a "b" 'c' $d ${TOKEN} \\e""",
}


def outcome(path: Path) -> dict[str, str]:
    """What a file leads to, by the suffix of the file that holds it."""
    text = path.read_text("utf-8")
    try:
        loaded = loads(text, name=path.name, format=format_of(path, text), env=ENV, base=GOLDEN)
    except ConfigError as error:
        return {".errors": _told(error.problems)}
    described = json.dumps(describe(loaded.config), indent=2, ensure_ascii=False) + "\n"
    result = {".expected.json": described.replace(str(GOLDEN), "/base")}
    return result | ({".warnings": _told(loaded.warnings)} if loaded.warnings else {})


def _told(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines).replace(str(GOLDEN), "/base")


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_golden(path: Path) -> None:
    expected = {suffix: result.read_text("utf-8") for suffix in RESULTS if (result := Path(f"{path}{suffix}")).exists()}

    assert outcome(path) == expected


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_no_result_holds_a_secret(path: Path) -> None:
    """Every secret of the inputs contains the word ``hidden``, and nothing else does but the name of a variable."""
    assert "hidden" not in "".join(outcome(path).values())


@pytest.mark.requirement("6.config")
def test_the_readme_of_the_bridge_loads_unchanged() -> None:
    """The example of dlmufei/mcp-gateway's README, byte for byte, as `test_golden` has it: nothing is said about it."""
    path = GOLDEN / "bridge_readme.json"
    loaded = loads(path.read_text("utf-8"), name=path.name, format="json", env=ENV)

    first, second = loaded.config.upstreams
    assert (first.name, second.name) == ("xiaozhi-agent-1", "xiaozhi-agent-2")
    assert first.reconnect == second.reconnect == Reconnect(enabled=True, initial=1.0, maximum=600.0, multiplier=2.0)
    assert loaded.config.namespaces[second.namespace].servers == ("xxx-mcp",)
    assert [server.timeout for server in loaded.config.servers.values()] == [60.0, 120.0, 180.0]
    assert loaded.warnings == []


def test_every_result_has_its_input() -> None:
    results = {path for path in GOLDEN.iterdir() if path.name.endswith(RESULTS)}

    assert results == {Path(f"{path}{suffix}") for path in INPUTS for suffix in outcome(path)}


def _regenerate() -> None:
    for path in INPUTS:
        for suffix in RESULTS:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        for suffix, text in outcome(path).items():
            Path(f"{path}{suffix}").write_text(text, "utf-8")


if __name__ == "__main__":
    _regenerate()
