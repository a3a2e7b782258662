"""What ``check`` found out about servers, as text for people and as JSON for machines. Pure."""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Sequence
from typing import Final

import attrs
from rich.cells import cell_len, set_cell_size

LONGEST_REASON: Final = 300
"""Characters of a reason that are shown; the last words of a child may be many lines."""


class Status(enum.Enum):
    OK = "ok"
    FAILED = "failed"
    DISABLED = "disabled"


_COLOURS: Final = {Status.OK: "\x1b[32m", Status.FAILED: "\x1b[31m", Status.DISABLED: "\x1b[2m"}
_PLAIN: Final = "\x1b[0m"
_MARGIN: Final = "    "


@attrs.frozen
class Tool:
    """A tool, under the server's own name for it."""

    name: str
    description: str = ""


@attrs.frozen
class Finding:
    """One server. A server that is reachable has failed all the same if it could not list what it offers."""

    name: str
    type: str
    status: Status = Status.DISABLED
    reachable: bool = False
    eras: tuple[str, ...] = ()
    """The one that it prefers first."""
    revision: str | None = None
    """The one agreed on in that era."""
    server_name: str | None = None
    server_version: str | None = None
    tools: tuple[Tool, ...] = ()
    """In the server's order."""
    prompts: int = 0
    resources: int = 0
    seconds: float | None = None
    """From the start of the check to the last answer."""
    error: str | None = None
    """One line; ``None`` unless it failed."""
    stage: str = ""
    """What failed: ``start``, ``initialize``, ``list tools`` …; empty unless it failed."""


def as_json(findings: Sequence[Finding], *, source: str) -> str:
    """Every key is always there, in this order, whatever was found; servers in the configuration's order."""
    whole = {"config": source, "servers": [_members(each) for each in findings], "summary": summary(findings)}
    return json.dumps(whole, indent=2, ensure_ascii=False)


def _members(finding: Finding) -> dict[str, object]:
    members = attrs.asdict(finding, filter=attrs.filters.exclude("stage"))
    members["tools"] = [tool.name for tool in finding.tools]
    members["status"] = finding.status.value
    members["seconds"] = None if finding.seconds is None else round(finding.seconds, 3)
    return members


def summary(findings: Sequence[Finding]) -> dict[str, int]:
    """How many servers are ok, failed and disabled, and the tools of all."""
    count = Counter(finding.status for finding in findings)
    return {**{status.value: count[status] for status in Status}, "tools": sum(len(each.tools) for each in findings)}


def as_text(findings: Sequence[Finding], *, colour: bool) -> str:
    """A line for each server, in columns aligned by display width, with its offer or its error below it."""
    if not findings:
        return "no servers are configured"
    rows = [_row(finding) for finding in findings]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for finding, row in zip(findings, rows, strict=True):
        cells = [set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True)]
        if colour:
            cells[1] = f"{_COLOURS[finding.status]}{cells[1]}{_PLAIN}"
        lines += ["  ".join(cells).rstrip(), *_details(finding)]
    total = summary(findings)
    return "\n".join([*lines, "", ", ".join(f"{count} {what}" for what, count in total.items())])


def _row(finding: Finding) -> tuple[str, ...]:
    identity = f"{finding.server_name or ''} {finding.server_version or ''}".strip()
    taken = "" if finding.seconds is None else f"{finding.seconds:.2f} s"
    row = (
        finding.name,
        finding.status.value,
        finding.type,
        ", ".join(finding.eras),
        finding.revision or "",
        identity,
        taken,
    )
    return tuple(map(one_line, row))


def _details(finding: Finding) -> list[str]:
    if finding.error is not None:
        return [f"{_MARGIN}{finding.error}"]
    if finding.status is Status.DISABLED:
        return []
    tools = f"tools ({len(finding.tools)}): " + ", ".join(one_line(tool.name) for tool in finding.tools)
    counts = f"prompts: {finding.prompts}, resources: {finding.resources}"
    return [f"{_MARGIN}{tools.rstrip(': ')}", f"{_MARGIN}{counts}"]


def one_line(text: str, limit: int = LONGEST_REASON) -> str:
    """Text of others for a terminal: one line, no control characters, and of too long a text its head and its tail."""
    line = flat(text)
    return line if len(line) <= limit else f"{line[: limit // 3]} … {line[-2 * limit // 3 :]}"


def flat(text: str) -> str:
    """Text of others for a terminal: one line, however long, and no control characters."""
    return "".join(character if character.isprintable() else "\ufffd" for character in " ".join(text.split()))
