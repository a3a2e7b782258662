"""The matrix that a conformance run prints, and that the documentation shows: its data stand in ``matrix.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

from tests.conformance.compare import Cell, Judgement, Run, passed

FILE: Final = Path(__file__).with_name("matrix.json")
_HEADINGS: Final = ("behind the gateway", "leg", "revision", "direct", "through", "known differences")


@attrs.frozen
class Row:
    """One leg: the scenarios that passed, of how many, on either way, and the differences that are listed as known."""

    server: str
    leg: str
    revision: str
    direct: str
    through: str
    known: int


def row(cell: Cell, revision: str, direct: Run, through: Run, verdict: Judgement) -> Row:
    known = sum(each.cell == cell for each in verdict.known)
    return Row(cell.server, cell.leg, revision, _score(direct), _score(through), known)


def _score(run: Run) -> str:
    return "/".join(map(str, passed(run)))


def table(rows: Iterable[Row]) -> Iterator[str]:
    """The rows as Markdown, which reads well on a terminal too."""
    cells = [_HEADINGS, *(tuple(str(value) for value in attrs.astuple(each)) for each in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    yield lines[0]
    yield "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    yield from lines[1:]


def load() -> tuple[Row, ...]:
    """The matrix as it was committed."""
    return tuple(Row(**entry) for entry in json.loads(FILE.read_text()))


def save(rows: Iterable[Row]) -> None:
    FILE.write_text(json.dumps([attrs.asdict(each) for each in rows], indent=1) + "\n")
