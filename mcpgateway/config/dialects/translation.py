"""What a dialect makes of a document."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from mcpgateway.config.dialects.shapes import Dialect
from mcpgateway.config.document import Node, Problem, did_you_mean, legible


@attrs.frozen
class Translation:
    """A document in canonical keys, and what is worth saying about the original."""

    root: Node
    dialect: Dialect = Dialect.CANONICAL
    problems: list[Problem] = attrs.field(factory=list)
    warnings: list[Problem] = attrs.field(factory=list)
    expanded: bool = False
    """Variables are filled in already, by the rules of the dialect."""
    lenient: bool = False
    """A server or an upstream that cannot work is left out with a warning, for the source system ran the others; and
    of what is given twice, the last one counts."""


@attrs.frozen
class Notes:
    """What is said while a document is translated."""

    problems: list[Problem] = attrs.field(factory=list)
    warnings: list[Problem] = attrs.field(factory=list)

    def wrong(self, text: str, node: Node) -> None:
        self.problems.append(Problem(text, node.at, node.line))

    def odd(self, text: str, node: Node) -> None:
        self.warnings.append(Problem(text, node.at, node.line))

    def ignored(self, key: str, node: Node, known: Collection[str]) -> None:
        """A key that means nothing here, of the object that holds ``node``."""
        text = f"key {legible(key)!r} is ignored{did_you_mean(key, list(known))}"
        self.warnings.append(Problem(text, node.at[:-1], node.line))
