"""Pages made from the project's own data, so that they cannot drift: configuration keys, requirements, conformance.

Directives, without arguments: ``configuration-keys`` renders the attrs classes of `mcpgateway.config.model`, with the
docstring of each field; ``metrics`` lists what ``/metrics`` has; ``requirements`` renders `tests.requirements`;
``conformance-matrix`` and ``conformance-known`` render what a conformance run wrote, and the differences that it knows;
``upstream-states`` draws the life of an upstream, `mcpgateway.fronts.dialling`.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import attrs
from docutils import nodes
from docutils.statemachine import StringList
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from docs._ext.diagram import Point, svg
from mcpgateway.config import model
from mcpgateway.durations import Seconds
from mcpgateway.durations import format as format_duration
from mcpgateway.fronts.dialling import TRANSITIONS, Event, State
from mcpgateway.recording.events import CallEvent
from mcpgateway.recording.outcomes import Outcome
from mcpgateway.recording.tally import Tally
from mcpgateway.web.metrics import exposition
from tests.conformance import matrix
from tests.conformance.known import KNOWN
from tests.requirements import REQUIREMENTS, Requirement
from tests.web import figures


class Generated(SphinxDirective):
    """A directive whose content is Markdown made by `lines`."""

    has_content: ClassVar[bool] = False

    def lines(self) -> Iterator[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        container = nodes.container()
        self.state.nested_parse(StringList(list(self.lines()), source=self.name), self.content_offset, container)
        return list(container.children)


# ---- configuration -------------------------------------------------------------------------------------------------


class ConfigurationKeys(Generated):
    def lines(self) -> Iterator[str]:
        for path, what, fields in sections():
            yield from (f"**{path}**{what}", "")
            yield from ("| key | type | default | |", "|---|---|---|---|")
            yield from (row(owner, field, kind) for owner, field, kind in fields)
            yield ""


Field: typing.TypeAlias = "tuple[type, attrs.Attribute[object], object]"


def sections() -> Iterator[tuple[str, str, list[Field]]]:
    """Every table of keys: its path in the file, a remark, its fields."""
    yield from walk(model.Config, "top level")
    yield from of_servers(model.ServerConfig, "every server")


def of_servers(base: type[model.ServerConfig], whose: str) -> Iterator[tuple[str, str, list[Field]]]:
    """The types of servers that a class is the base of, and what each has beside it."""
    for kind in base.__subclasses__():
        extra = [field for field in fields_of(kind) if field[1].name in kind.__annotations__]
        keys = [field for field in extra if section_of(field[2]) is None or is_mapping(field[2])]
        yield f"servers.*name*, type `{kind.type}`", f", besides the keys of {whose}", keys
        for _, field, value in extra:
            inner = section_of(value)
            if inner is not None and not is_mapping(value):
                yield from walk(inner, f"servers.*name*.{field.name}")
        yield from of_servers(kind, f"type `{kind.type}`")


def walk(cls: type, path: str) -> Iterator[tuple[str, str, list[Field]]]:
    fields = fields_of(cls)
    yield path, "", [field for field in fields if section_of(field[2]) is None]
    for _, field, kind in fields:
        inner = section_of(kind)
        if inner is not None:
            name = f"{field.name}.*name*" if is_mapping(kind) else f"{field.name}[]" if is_list(kind) else field.name
            yield from walk(inner, name if cls is model.Config else f"{path}.{name}")


def fields_of(cls: type) -> list[Field]:
    """The fields that a file has keys for: where it came from is known, and the names of many things are keys."""
    hints = typing.get_type_hints(cls, include_extras=True)
    hidden = {"source", "name"} if model.is_keyed(cls) else {"source"}
    return [(cls, field, hints[field.name]) for field in attrs.fields(cls) if field.name not in hidden]


def is_mapping(kind: object) -> bool:
    return typing.get_origin(kind) is Mapping


def is_list(kind: object) -> bool:
    return typing.get_origin(kind) is tuple


def section_of(kind: object) -> type | None:
    """The attrs class whose keys a value of this type has, if it has any."""
    for part in (kind, *typing.get_args(kind)):
        if isinstance(part, type) and attrs.has(part):
            return part
    return None


def row(owner: type, field: attrs.Attribute[object], kind: object) -> str:
    return f"| `{field.name}` | {type_text(kind)} | {default_text(field, kind)} | {doc_of(owner, field.name)} |"


def type_text(kind: object) -> str:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    if is_duration(kind):
        return "duration"
    simple = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "path", type(None): "null"}
    if isinstance(kind, type):
        return simple.get(kind, "string")
    parts = [part for part in typing.get_args(kind) if part is not Ellipsis]
    if is_list(kind):
        return f"list of {type_text(parts[0])}s"
    if is_mapping(kind):
        return f"mapping to {type_text(parts[1])}s"
    return type_text(next(part for part in parts if part is not type(None)))


def is_duration(kind: object) -> bool:
    return Seconds in (kind, *typing.get_args(kind))


def default_text(field: attrs.Attribute[object], kind: object) -> str:
    default = field.default
    if default is attrs.NOTHING:
        return "required"
    if isinstance(default, enum.Enum):
        return f"`{default.value}`"
    if isinstance(default, float):
        return f"`{format_duration(default) if is_duration(kind) else default}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return "`[" + ", ".join(f'"{entry}"' for entry in default) + "]`"
    if isinstance(default, str | int):
        return f"`{default}`" if default != "" else ""
    return "" if not is_mapping(kind) else "`{}`"


def doc_of(owner: type, name: str) -> str:
    """The docstring below a field, on its own class or the one that it inherits the field from."""
    for cls in owner.__mro__:
        if cls.__module__.startswith("mcpgateway."):
            analyzer = ModuleAnalyzer.for_module(cls.__module__)
            lines = analyzer.find_attr_docs().get((cls.__name__, name))
            if lines:
                return " ".join(lines).strip().replace("|", "\\|")
    return ""


# ---- requirements --------------------------------------------------------------------------------------------------


class Requirements(Generated):
    def lines(self) -> Iterator[str]:
        counts = {state: sum(each.state == state for each in REQUIREMENTS) for state in ("proved", "later", "refused")}
        yield from (", ".join(f"{count} {state}" for state, count in counts.items()) + ".", "")
        for source in dict.fromkeys(each.source for each in REQUIREMENTS):
            yield from (f"**{source[0].upper()}{source[1:]}**", "", "| id | | |", "|---|---|---|")
            yield from (
                f"| `{each.id}` | {cell(each.text)} | {state_text(each)} |"
                for each in REQUIREMENTS
                if each.source == source
            )
            yield ""


def state_text(each: Requirement) -> str:
    if each.tests:
        return "proved by " + ", ".join(f"`{test}`" for test in each.tests)
    return cell(f"later: {each.later}" if each.later is not None else f"refused: {each.refused}")


# ---- metrics -------------------------------------------------------------------------------------------------------


class MetricsTable(Generated):
    def lines(self) -> Iterator[str]:
        yield from ("| name | type | labels | |", "|---|---|---|---|")
        for family in metrics():
            if family.name.startswith("mcpgateway_"):
                name = f"{family.name}_total" if family.type == "counter" else family.name
                labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
                shown = ", ".join(f"`{label}`" for label in labels)
                yield f"| `{name}` | {family.type} | {shown} | {cell(family.documentation)} |"
        yield from ("", "And the usual ones of the process: memory, CPU time, file descriptors, start.", "")


def metrics() -> Iterator[Metric]:
    """Every metric, with a sample at least."""
    tally = Tally()
    tally.take([CallEvent("", "tools/call", "one", "echo", True, Outcome.OK, 0.0)])
    upstreams = [figures.upstream("cloud", round_trip=0.1)]
    text = exposition(figures.statistics(one=figures.server("one")), tally, upstreams)
    yield from text_string_to_metric_families(text.decode())


# ---- conformance ---------------------------------------------------------------------------------------------------


class ConformanceMatrix(Generated):
    def lines(self) -> Iterator[str]:
        yield from matrix.table(matrix.load())


class ConformanceKnown(Generated):
    def lines(self) -> Iterator[str]:
        yield from ("| leg | check | why |", "|---|---|---|")
        for entry in KNOWN:
            yield f"| {entry.cell} | `{entry.scenario}: {entry.check}` | {cell(entry.reason)} |"


# ---- upstreams -----------------------------------------------------------------------------------------------------

PLACES: dict[State, Point] = {
    State.DIALLING: (70, 130),
    State.CONNECTED: (470, 30),
    State.STABLE: (760, 130),
    State.WAITING: (340, 130),
    State.ENDED: (500, 290),
}


class UpstreamStates(Generated):
    def lines(self) -> Iterator[str]:
        yield from ("```{raw} html", *upstream_diagram(), "```", "")
        yield from ("| state | |", "|---|---|")
        yield from (f"| {state.value} | {doc_of(State, state.name)} |" for state in State)
        yield from ("", "| event | |", "|---|---|")
        yield from (f"| {event.value} | {doc_of(Event, event.name)} |" for event in Event)
        yield ""


def upstream_diagram() -> Iterator[str]:
    """The life of an upstream as SVG."""
    edges: dict[tuple[str, str], list[str]] = {}
    for state, events in TRANSITIONS.items():
        for event, follows in events.items():
            edges.setdefault((state.value, follows.state.value), []).append(event.value)
    return svg({state.value: place for state, place in PLACES.items()}, edges, first=State.DIALLING.value)


# ---- all -------------------------------------------------------------------------------------------------------------


def cell(text: str) -> str:
    """Text that Markdown leaves alone in a table."""
    for character in "\\|*_<[{$":
        text = text.replace(character, f"\\{character}")
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("configuration-keys", ConfigurationKeys)
    app.add_directive("metrics", MetricsTable)
    app.add_directive("requirements", Requirements)
    app.add_directive("conformance-matrix", ConformanceMatrix)
    app.add_directive("conformance-known", ConformanceKnown)
    app.add_directive("upstream-states", UpstreamStates)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
