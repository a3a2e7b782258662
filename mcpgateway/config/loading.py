"""A file, a text or a value → a checked `Config`; everything that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import attrs

from mcpgateway.config import checks, document
from mcpgateway.config.dialects import Dialect, detect, translate
from mcpgateway.config.document import Address, Expanded, Invalid, Node, Problem, nearest
from mcpgateway.config.expansion import expand_all, expand_unquoted
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
    left_out: Mapping[str, str] = attrs.field(factory=dict)
    """Servers that cannot work, and are disabled so that the others run, each with what is wrong with it."""


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
        text, garbled = content.decode("utf-8-sig"), tuple[Problem, ...]()
    except UnicodeDecodeError as error:
        text, garbled = content.decode("utf-8-sig", "replace"), (Problem(f"not UTF-8 (byte {error.start})"),)
    return _loads(text, format_of(path, text), _Source(str(path), env, path.absolute().parent, garbled))


def loads(text: str, *, name: str, format: Format, env: Mapping[str, str], base: Path | None = None) -> Loaded:
    """Read a configuration out of a text. ``name`` is what problems call it.

    :param base: the absolute directory of relative paths; the working directory where not given
    :raises ConfigError: as `load`
    """
    return _loads(text, format, _Source(name, env, base))


def state_dir(path: Path, *, env: Mapping[str, str]) -> Path | None:
    """The ``state_dir`` of a file, whatever else is wrong with it; ``None`` where that cannot be told.

    Whoever wants to end what runs by it need not mend it first.
    """
    try:
        text = path.read_text("utf-8-sig", errors="replace")
        root, _ = _parse(text, format_of(path, text), env)
        only = {name: node for name, node in root.entries.items() if name == "state_dir"}
        return _finish(Node(only), _Source(str(path), env, path.absolute().parent)).config.state_dir
    except (OSError, Invalid, ConfigError):
        return None


def from_value(
    value: Mapping[str, object], *, env: Mapping[str, str] | None = None, name: str = "configuration"
) -> Loaded:
    """Check a configuration that an embedder holds as a plain value: mappings, sequences, scalars, paths.

    :param env: ``None`` leaves strings as they are, ``$`` and all
    :raises ConfigError: as `load`, without lines
    """
    try:
        return _finish(document.from_value(value), _Source(name, env))
    except Invalid as error:
        raise _error(error.problems, name) from None


def format_of(path: Path, text: str) -> Format:
    """The format of a file."""
    suffix = path.suffix.lower().removeprefix(".").replace("yml", "yaml")
    if suffix in FORMATS:
        return suffix
    return "json" if text.lstrip().startswith("{") else "yaml"


@attrs.frozen
class _Source:
    """Where a document comes from, and what is wrong with its text, though not for every dialect."""

    name: str
    env: Mapping[str, str] | None
    base: Path | None = None
    garbled: tuple[Problem, ...] = ()
    """Bytes that are no UTF-8."""
    repeated: tuple[Problem, ...] = ()
    """Keys that are given twice."""


def _loads(text: str, format: Format, source: _Source) -> Loaded:
    try:
        root, repeated = _parse(text, format, source.env or {})
        return _finish(root, attrs.evolve(source, repeated=tuple(repeated)))
    except Invalid as error:
        raise _error(source.garbled or error.problems, source.name) from None


def _parse(text: str, format: Format, env: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """Read a document. Only the bridge filled in variables before it read, so that they could be more than strings."""
    try:
        return parse(text, format)
    except Invalid:
        filled = expand_unquoted(text, env) if format == "json" else text
        if filled == text:
            raise
        with suppress(Invalid):
            root, repeated = parse(filled, format)
            if detect(root)[0] is Dialect.BRIDGE:
                return root, repeated
        raise


def _finish(root: Node, source: _Source) -> Loaded:
    translation = translate(root, source.env)
    lenient = translation.lenient
    if source.garbled and not lenient:
        raise Invalid(*source.garbled)
    if translation.expanded or source.env is None:
        root, unset = translation.root, list[Problem]()
    else:
        root, unset = expand_all(translation.root, source.env)
    home = Path((source.env or {}).get("HOME") or Path.home())
    config, misfits = structure(root, base=source.base or Path.cwd(), home=home)
    servers, namespaces = _names(root, "servers"), _names(root, "namespaces")
    found = checks.check(config, servers=servers, namespaces=namespaces, is_file=Path.is_file)
    wrong, odd = [each for each in found if not each.odd], [each for each in found if each.odd]
    unresolved = {problem.at for problem in unset}
    told = (_problem(finding, root) for finding in [*misfits, *([] if lenient else wrong)])
    problems = dict.fromkeys(
        [
            *([] if lenient else source.repeated),
            *translation.problems,
            *unset,
            *(problem for problem in told if problem.at not in unresolved),
        ]
    )
    if problems:
        raise _error(problems, source.name)
    warnings = [*translation.warnings, *(_problem(finding, root) for finding in odd)]
    if lenient:
        wrong = [finding for finding in wrong if not _is_disabled(finding, config)]
        warnings += _forgiven(config, root, wrong, source)
        config = _without(config, {_part(finding) for finding in wrong})
    config = attrs.evolve(config, source=source.name)
    left_out = _servers_at_fault(wrong) if lenient else {}
    return Loaded(config, _lines(warnings, source.name), frozenset(root.entries), translation.dialect, left_out)


def _forgiven(config: Config, root: Node, wrong: Iterable[Finding], source: _Source) -> Iterator[Problem]:
    """What a lenient dialect warns of where others refuse."""
    yield from source.garbled
    for slip in source.repeated:
        yield attrs.evolve(slip, text=f"{slip.text}: the last one counts")
    for finding in wrong:
        match _part(finding):
            case "servers", str(name):
                whose = f"server {name!r}"
            case "upstreams", int(index):
                whose = f"upstream {config.upstreams[index].name!r}"
            case _:
                continue
        problem = _problem(finding, root)
        yield attrs.evolve(problem, text=f"{problem.text} ({whose} is left out, the others run)")


def _part(finding: Finding) -> Address:
    """The server or upstream that a finding is about; empty for none."""
    return finding.at[:2] if finding.at[:1] in (("servers",), ("upstreams",)) else ()


def _is_disabled(finding: Finding, config: Config) -> bool:
    """Whether it is about a server that is not to run, in which nothing need be right."""
    match _part(finding):
        case ("servers", str(name)):
            return not config.servers[name].enabled
    return False


def _without(config: Config, parts: Collection[Address]) -> Config:
    """The configuration with some of its servers and upstreams disabled."""
    servers = {name: _enabled(each, ("servers", name) not in parts) for name, each in config.servers.items()}
    upstreams = [_enabled(each, ("upstreams", index) not in parts) for index, each in enumerate(config.upstreams)]
    return attrs.evolve(config, servers=servers, upstreams=tuple(upstreams))


def _servers_at_fault(wrong: Iterable[Finding]) -> dict[str, str]:
    """By server, the first thing that is wrong with it."""
    found: dict[str, str] = {}
    for finding in wrong:
        match _part(finding):
            case ("servers", str(name)):
                found.setdefault(name, Problem(finding.text, finding.at[2:]).render(""))
    return found


def _enabled(part: _Part, still: bool) -> _Part:
    return part if still else attrs.evolve(part, enabled=False)


def _names(root: Node, section: str) -> Collection[str] | None:
    """The names that a section gives; ``None`` where it is not what it should be."""
    value = root.entries.get(section, Node({})).value
    return value if isinstance(value, dict) else None


def _problem(finding: Finding, root: Node) -> Problem:
    culprit, _ = nearest(root, finding.culprit)
    text = finding.text
    if isinstance(culprit.value, Expanded):
        text = text.replace(repr(str(culprit.value)), repr(culprit.value.written))
    node, rest = nearest(root, finding.at)
    return Problem(text, (*node.at, *rest), culprit.line)


def _error(problems: Iterable[Problem], name: str) -> ConfigError:
    return ConfigError(_lines(problems, name))


def _lines(problems: Iterable[Problem], name: str) -> list[str]:
    return [problem.render(name) for problem in sorted(problems, key=lambda problem: problem.line or 0)]
