"""What can be checked, one session each. `nox` alone runs lint, types, docs and tests; `nox -l` lists all.

Needs nothing but Python and Node: every session installs what it uses, from the groups in `pyproject.toml`.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "types", "docs", "tests"]  # tests last: their closing line ends the output
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True
nox.options.default_venv_backend = "venv"

PROJECT = nox.project.load_toml("pyproject.toml")
CODE = ("mcpgateway", "runners")
CHECKED = (*CODE, "tests", "docs", "noxfile.py")


def group(name: str) -> list[str]:
    """The requirements of a dependency group (read here, because pip knows ``--group`` only since 25.1)."""
    return list(nox.project.dependency_groups(PROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Style, trio's pitfalls, and the architecture: who may import whom."""
    session.install(*group("lint"))
    modules = sorted(str(path) for room in CODE for path in Path(room).rglob("*.py"))
    session.run("ruff", "check", *CHECKED)
    session.run("ruff", "format", "--check", *CHECKED)
    session.run("flake8-async", f"--disable={','.join(FLAKE8_ASYNC_OFF)}", *modules)
    session.run("lint-imports", "--no-cache", "--no-logo")


FLAKE8_ASYNC_OFF = (
    "ASYNC102",  # it cannot see into `wire.shield.shielded`, the one bounded shield
    "ASYNC120",  # the same, in an `except`
    "ASYNC114",  # it knows startable functions by their bare name, and `run` is too common a name to list
    "ASYNC124",  # Starlette's endpoints and the seam's functions are async by contract, whatever is in them
    "ASYNC109",  # `timeout` is MCP's word for a server's answer time, passed on as a value
    "ASYNC910",  # "read before you wait": a checkpoint where data is ready would cost a tenth of a call
    "ASYNC911",  # the same, for async generators
    "ASYNC912",  # the same, for cancel scopes
)


@nox.session
def types(session: nox.Session) -> None:
    """mypy, strict, over the library, the runners and the tests."""
    session.install(".", *group("types"))
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests: the unit part on all cores, then those with real servers; `-- -m "not real"` for the first only."""
    session.install(".", *group("test"))
    if session.posargs:
        session.run("python", "-m", "pytest", *session.posargs)
        return
    session.run("python", "-m", "tests.real.registries")
    session.run("python", "-m", "pytest", "-n", "logical", "-m", "not real")
    session.run("python", "-m", "pytest", "-m", "real")  # they measure, so nothing else runs meanwhile


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, warnings as errors."""
    session.install(".", *group("docs"))
    session.run("sphinx-build", "-W", "-n", "-q", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """The gateway against nginx; status 1 if a threshold is missed. Needs gcc, nginx and taskset."""
    session.install(".", *group("bench"))
    # Start-up is measured as a user has it: with the compiled modules that an installation makes.
    session.run("python", "-m", "tests.bench", *session.posargs, env={"PYTHONDONTWRITEBYTECODE": None})


@nox.session
def conformance(session: nox.Session) -> None:
    """The MCP conformance suite direct and through the gateway, as a matrix; status 1 if a check differs. Needs npm."""
    session.install(".", *group("conformance"))
    session.run("python", "-m", "tests.conformance", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Sixteen clients at random for half a minute, with real sockets and processes (``SOAK_SECONDS``)."""
    session.install(".", *group("test"))
    seconds = os.environ.get("SOAK_SECONDS", "30")
    session.run("python", "-m", "pytest", "-m", "real", "tests/soak", *session.posargs, env={"SOAK_SECONDS": seconds})


@nox.session
def fuzz(session: nox.Session) -> None:
    """A million inputs (``FUZZ_INPUTS``) at the parsers' entries; what is found goes to tests/fuzz/corpus."""
    session.install(".", *group("fuzz"))
    session.run("python", "-m", "tests.fuzz", "--merge", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """The chaos suite for longer (``CHAOS_EXAMPLES``, 2,000 stories), and its run with real processes."""
    session.install(".", *group("test"))
    examples = os.environ.get("CHAOS_EXAMPLES", "2000")
    selected = session.posargs or ["-m", "real or not real"]
    session.run("python", "-m", "pytest", "tests/chaos", *selected, env={"CHAOS_EXAMPLES": examples})
