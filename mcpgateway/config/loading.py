"""A file, a text or a value → a checked `Config`; everything that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import attrs

from mcpgateway.config import checks, document
from mcpgateway.config.dialects import translate
from mcpgateway.config.document import Expanded, Invalid, Node, Problem, nearest
from mcpgateway.config.expansion import expand_all
from mcpgateway.config.formats import FORMATS, Format, parse
from mcpgateway.config.model import Config
from mcpgateway.config.structuring import Finding, structure
from mcpgateway.errors import ConfigError


@attrs.frozen
class Loaded:
    """A configuration, and what is odd about it without being wrong, each as a line for people."""

    config: Config
    warnings: list[str]
    sections: frozenset[str] = frozenset()
    """The canonical top-level keys that were given, by this name or by that of a dialect. ``runners.bridge`` opens a
    listener only where somebody asks for one with ``listen``."""


def load(path: Path, *, env: Mapping[str, str]) -> Loaded:
    """Read a configuration file. The suffix says its format; a file without one of ours is JSON if it begins like it.

    :param env: where ``${VAR}`` and ``~`` come from
    :raises ConfigError: everything that is wrong with it, each problem with file, line and address
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 (byte {error.start})"]) from None
    return loads(text, name=str(path), format=format_of(path, text), env=env, base=path.absolute().parent)


def loads(text: str, *, name: str, format: Format, env: Mapping[str, str], base: Path | None = None) -> Loaded:
    """Read a configuration out of a text. ``name`` is what problems call it.

    :param base: the absolute directory of relative paths; the working directory where not given
    :raises ConfigError: as `load`
    """
    try:
        root, problems = parse(text, format)
        return _finish(root, problems, name, env, base)
    except Invalid as error:
        raise _error(error.problems, name) from None


def from_value(
    value: Mapping[str, object], *, env: Mapping[str, str] | None = None, name: str = "configuration"
) -> Loaded:
    """Check a configuration that an embedder holds as a plain value: mappings, sequences, scalars, paths.

    :param env: ``None`` leaves strings as they are, ``$`` and all
    :raises ConfigError: as `load`, without lines
    """
    try:
        return _finish(document.from_value(value), [], name, env, None)
    except Invalid as error:
        raise _error(error.problems, name) from None


def format_of(path: Path, text: str) -> Format:
    """The format of a file."""
    suffix = path.suffix.lower().removeprefix(".").replace("yml", "yaml")
    if suffix in FORMATS:
        return suffix
    return "json" if text.lstrip().startswith("{") else "yaml"


def _finish(root: Node, problems: list[Problem], name: str, env: Mapping[str, str] | None, base: Path | None) -> Loaded:
    translation = translate(root)
    root, unset = (translation.root, []) if env is None else expand_all(translation.root, env)
    home = Path((env or {}).get("HOME") or Path.home())
    config, misfits = structure(root, base=base or Path.cwd(), home=home)
    servers, namespaces = _names(root, "servers"), _names(root, "namespaces")
    found = checks.check(config, servers=servers, namespaces=namespaces, is_file=Path.is_file)
    unresolved = {problem.at for problem in unset}
    wrong = [_problem(finding, root) for finding in [*misfits, *found] if not finding.odd]
    problems = [*problems, *translation.problems, *unset, *(each for each in wrong if each.at not in unresolved)]
    if problems:
        raise _error(problems, name)
    odd = [*translation.warnings, *(_problem(finding, root) for finding in found)]
    return Loaded(attrs.evolve(config, source=name), _lines(odd, name), frozenset(root.entries))


def _names(root: Node, section: str) -> Collection[str] | None:
    """The names that a section gives; ``None`` where it is not what it should be."""
    value = root.entries.get(section, Node({})).value
    return value if isinstance(value, dict) else None


def _problem(finding: Finding, root: Node) -> Problem:
    culprit = nearest(root, finding.culprit)
    text = finding.text
    if isinstance(culprit.value, Expanded):
        text = text.replace(repr(str(culprit.value)), repr(culprit.value.written))
    return Problem(text, nearest(root, finding.at).at, culprit.line)


def _error(problems: Iterable[Problem], name: str) -> ConfigError:
    return ConfigError(_lines(problems, name))


def _lines(problems: Iterable[Problem], name: str) -> list[str]:
    return [problem.render(name) for problem in sorted(problems, key=lambda problem: problem.line or 0)]
