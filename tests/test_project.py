"""What holds for the tree as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP_LEVEL = {
    ".ci",
    ".dockerignore",
    ".gitignore",
    "CHANGELOG.md",
    "Dockerfile",
    "LICENSE",
    "README.md",
    "compose.yaml",
    "docs",
    "mcpgateway",
    "noxfile.py",
    "pyproject.toml",
    "runners",
    "tests",
}


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [Path(line) for line in listed.splitlines()]


def test_the_top_level_holds_what_the_design_names_and_no_more() -> None:
    assert {path.parts[0] for path in _tracked()} == TOP_LEVEL


def test_every_room_is_on_the_ladder_that_the_lint_session_holds() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (ladder,) = [contract for contract in linter["contracts"] if contract["type"] == "layers"]
    listed = {room for rung in ladder["layers"] for room in re.findall(r"\w+", rung)}
    rooms = {path.parts[1].removesuffix(".py") for path in _tracked() if path.parts[0] == "mcpgateway"}
    assert ladder["exhaustive"]
    assert rooms - listed - set(ladder["exhaustive_ignores"]) == {"__init__", "py.typed"}


@pytest.mark.requirement("2.project.docs")
def test_what_ci_runs_builds_the_documentation_with_warnings_as_errors() -> None:
    noxfile = ast.parse((ROOT / "noxfile.py").read_text()).body
    assigned = {ast.unparse(each.targets[0]): each.value for each in noxfile if isinstance(each, ast.Assign)}
    (session,) = [each for each in noxfile if isinstance(each, ast.FunctionDef) and each.name == "docs"]
    (command,) = [call for call in ast.walk(session) if isinstance(call, ast.Call) and "sphinx-build" in _words(call)]
    assert "docs" in ast.literal_eval(assigned["nox.options.sessions"])
    assert {"-W", "-n"} <= _words(command)


def _words(call: ast.Call) -> set[object]:
    return {argument.value for argument in call.args if isinstance(argument, ast.Constant)}


def test_no_test_sleeps() -> None:
    """A test that sleeps has trio's clock in its hands."""
    modules = [path for path in _tracked() if path.parts[0] == "tests" and path.match("test_*.py")]
    assert {str(path): sleepers for path in modules if (sleepers := _sleeps(path))} == {}


def _sleeps(path: Path) -> list[str]:
    """The functions of a module that sleep without a virtual clock."""
    text = (ROOT / path).read_text()
    virtual = "autojump_clock" in text or "MockClock" in text or "autojump" in text
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(_is_sleep(call, virtual) for call in ast.walk(node))
    ]


def _is_sleep(node: ast.AST, virtual: bool) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "sleep":
        return False
    module = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    return module == "time" or (module == "trio" and not virtual)


def test_the_package_imports_nothing_of_the_sdk() -> None:
    code = "import sys, mcpgateway; mcpgateway.open_gateway; sys.exit('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
