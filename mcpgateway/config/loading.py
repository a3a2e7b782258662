"""A file, a text or a value → a checked `Config`; everything that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from mcpgateway.config import checks, document
from mcpgateway.config.dialects import Dialect, translate
from mcpgateway.config.document import Address, Expanded, Invalid, Node, Problem, nearest
from mcpgateway.config.expansion import expand_all
from mcpgateway.config.formats import FORMATS, Format, parse
from mcpgateway.config.model import Config, ServerConfig, UpstreamConfig
from mcpgateway.config.structuring import Finding, structure
from mcpgateway.errors import ConfigError

_Part = TypeVar("_Part", ServerConfig, UpstreamConfig)


@attrs.frozen
class Loaded:
    """A configuration, and what is odd about it without being wrong, each as a line for people."""

    config: Config
    warnings: list[str]
    keys: frozenset[str] = frozenset()
    """The canonical keys at its top that were given, by these names or by those of a dialect, whatever their values.
    ``runners.bridge`` opens a listener only where somebody asks for one with ``listen``."""
    dialect: Dialect = Dialect.CANONICAL


def load(path: Path, *, env: Mapping[str, str]) -> Loaded:
    """Read a configuration file. The suffix says its format; a file without one of ours is JSON if it begins like it.

    :param env: where ``${VAR}`` and ``~`` come from
    :raises ConfigError: everything that is wrong with it, each problem with file, line and address
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    try:
        text, garbled = content.decode("utf-8-sig"), list[Problem]()
    except UnicodeDecodeError as error:
        text, garbled = content.decode("utf-8-sig", "replace"), [Problem(f"not UTF-8 (byte {error.start})")]
    return _loads(text, str(path), format_of(path, text), env, path.absolute().parent, garbled)


def loads(text: str, *, name: str, format: Format, env: Mapping[str, str], base: Path | None = None) -> Loaded:
    """Read a configuration out of a text. ``name`` is what problems call it.

    :param base: the absolute directory of relative paths; the working directory where not given
    :raises ConfigError: as `load`
    """
    return _loads(text, name, format, env, base, [])


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


def _loads(
    text: str, name: str, format: Format, env: Mapping[str, str], base: Path | None, garbled: list[Problem]
) -> Loaded:
    """``garbled`` is what is wrong with the bytes already, though not for every dialect."""
    try:
        root, repeated = parse(text, format)
        return _finish(root, repeated, name, env, base, garbled)
    except Invalid as error:
        raise _error(garbled or error.problems, name) from None


def _finish(
    root: Node,
    repeated: list[Problem],
    name: str,
    env: Mapping[str, str] | None,
    base: Path | None,
    garbled: Sequence[Problem] = (),
) -> Loaded:
    translation = translate(root, env)
    slips = repeated
    if garbled and not translation.lenient:
        raise Invalid(*garbled)
    if translation.expanded or env is None:
        root, unset = translation.root, list[Problem]()
    else:
        root, unset = expand_all(translation.root, env)
    home = Path((env or {}).get("HOME") or Path.home())
    config, misfits = structure(root, base=base or Path.cwd(), home=home)
    servers, namespaces = _names(root, "servers"), _names(root, "namespaces")
    found = checks.check(config, servers=servers, namespaces=namespaces, is_file=Path.is_file)
    wrong = [*misfits, *(finding for finding in found if not finding.odd)]
    warnings = [*translation.warnings, *(_problem(finding, root) for finding in found if finding.odd)]
    left_out = set[Address]()
    if translation.lenient:
        wrong, slips, left_out = misfits, [], {_part(finding) for finding in found if not finding.odd}
        warnings += _forgiven(root, found, repeated, garbled)
    unresolved = {problem.at for problem in unset}
    told = (problem for problem in (_problem(finding, root) for finding in wrong) if problem.at not in unresolved)
    problems = dict.fromkeys([*slips, *translation.problems, *unset, *told])
    if problems:
        raise _error(problems, name)
    config = attrs.evolve(_without(config, left_out), source=name)
    return Loaded(config, _lines(warnings, name), frozenset(root.entries), translation.dialect)


def _forgiven(
    root: Node, found: Iterable[Finding], repeated: Iterable[Problem], garbled: Iterable[Problem]
) -> Iterator[Problem]:
    """What a lenient dialect makes of what is wrong elsewhere."""
    yield from garbled
    for slip in repeated:
        yield attrs.evolve(slip, text=f"{slip.text}: the last one counts")
    for finding in found:
        if _part(finding) and not finding.odd:
            problem = _problem(finding, root)
            yield attrs.evolve(problem, text=f"{problem.text} (this one is left out, the others run)")


def _part(finding: Finding) -> Address:
    """The server or upstream that a finding is about; empty for none."""
    return finding.at[:2] if finding.at[:1] in (("servers",), ("upstreams",)) else ()


def _without(config: Config, parts: Collection[Address]) -> Config:
    """The configuration with some of its servers and upstreams disabled."""
    servers = {name: _enabled(each, ("servers", name) not in parts) for name, each in config.servers.items()}
    upstreams = [_enabled(each, ("upstreams", index) not in parts) for index, each in enumerate(config.upstreams)]
    return attrs.evolve(config, servers=servers, upstreams=tuple(upstreams))


def _enabled(part: _Part, still: bool) -> _Part:
    return part if still else attrs.evolve(part, enabled=False)


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
