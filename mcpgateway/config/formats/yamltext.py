"""YAML 1.2 with lines: ruamel composes its nodes, which have marks, and this makes ours of them.

Nothing is constructed, so tags have no effect but an error. Dates stay the text that they are. Merge keys (``<<``)
and aliases work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode

from mcpgateway.config.document import Address, Invalid, Node, Problem, assemble

MAX_VALUES: Final = 100_000
"""Values in a document, each counted as often as aliases repeat it: a few lines of aliases can stand for billions."""

_QUOTING = re.compile(r"\b(alias|anchor|handle|directive)\b ['\"].*", re.DOTALL)
_PREFIX = "tag:yaml.org,2002:"


def read_yaml(text: str) -> tuple[Node, list[Problem]]:
    """:raises Invalid: not YAML, several documents, or tags"""
    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # the warning quotes lines, which may hold secrets
    try:
        return _Reader(yaml).read(yaml.compose(text))
    except MarkedYAMLError as error:
        raise Invalid(_problem(error)) from None
    except YAMLError:
        raise Invalid(Problem("not YAML: it holds a character that YAML does not allow")) from None


def _problem(error: MarkedYAMLError) -> Problem:
    what = " ".join(part for part in (error.context, error.problem) if part)
    what = _QUOTING.sub(r"\1", what)
    mark = error.problem_mark
    return Problem(f"not YAML: {what}", line=mark.line + 1 if mark else None)


class _Reader:
    def __init__(self, yaml: YAML) -> None:
        self._yaml = yaml
        self._problems: list[Problem] = []
        self._values = 0

    def read(self, root: YamlNode | None) -> tuple[Node, list[Problem]]:
        return (Node(None) if root is None else self._node(root, _line(root), ())), self._problems

    def _node(self, node: YamlNode, line: int, at: Address) -> Node:
        self._count(line, at)
        match node:
            case MappingNode():
                return Node(self._mapping(node, at), at, line)
            case SequenceNode():
                items = enumerate(node.value)
                return Node([self._node(item, _line(item), (*at, index)) for index, item in items], at, line)
            case _:
                return Node(self._scalar(node, at), at, line)

    def _count(self, line: int, at: Address) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise Invalid(
                Problem(f"more than {MAX_VALUES} values, those that aliases repeat counted each time", at, line)
            )

    def _mapping(self, node: MappingNode, at: Address) -> dict[str, Node]:
        own = assemble(self._entries(node, at), at, self._problems)
        for inherited in self._merged(node, at):
            for key, value in inherited.items():
                own.setdefault(key, value)
        return own

    def _entries(self, node: MappingNode, at: Address) -> Iterator[tuple[str, Node]]:
        for key, value in node.value:
            if not _is_merge(key):
                name = self._key(key, at)
                yield name, self._node(value, _line(key), (*at, name))

    def _merged(self, node: MappingNode, at: Address) -> Iterator[dict[str, Node]]:
        for value in [value for key, value in node.value if _is_merge(key)]:
            for source in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(source, MappingNode):
                    raise Invalid(Problem("'<<' takes a mapping, or a list of mappings", at, _line(value)))
                self._count(_line(value), at)
                yield self._mapping(source, at)

    def _key(self, key: YamlNode, at: Address) -> str:
        name = self._scalar(key, at) if isinstance(key, ScalarNode) else None
        if not isinstance(name, str):
            raise Invalid(Problem("keys must be strings (quote them)", at, _line(key)))
        return name

    def _scalar(self, node: YamlNode, at: Address) -> str | int | float | bool | None:
        match str(node.tag).removeprefix(_PREFIX):
            case "str" | "timestamp":
                return str(node.value)
            case "null":
                return None
            case "bool" | "int" | "float":
                return self._constructed(node)
            case _:
                raise Invalid(
                    Problem("tags ('!…') have no meaning here; quote the text if it is meant", at, _line(node))
                )

    def _constructed(self, node: YamlNode) -> int | float | bool:
        try:
            value = self._yaml.constructor.construct_object(node)
        except (ValueError, LookupError):  # what ruamel lets through for "!!int" and the like
            raise Invalid(Problem("not a number that can be read; quote it if it is text", line=_line(node))) from None
        assert isinstance(value, int | float)
        return value


def _is_merge(key: YamlNode) -> bool:
    return bool(key.tag == _PREFIX + "merge")


def _line(node: YamlNode) -> int:
    return int(node.start_mark.line) + 1
