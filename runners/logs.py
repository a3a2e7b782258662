"""How a runner logs: to standard error, as text for people or as JSON lines for machines, and never waiting for it.

An entry is one line, whatever others put into it. It may have fields beside its text (``extra={"fields": {...}}``):
``upstream``, ``namespace``, ``server``, ``tool`` and the like. Text has them as ``server=time`` behind the message,
JSON as members of its object.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from mcpgateway.recording.lines import escaped
from runners import stderr

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")

PAYLOADS: Final = frozenset({"arguments", "result"})
"""Fields that are JSON on one line already, with an end of its own: they stand as they are."""
_PLAIN: Final = re.compile(r"[^\s\"'=\\]+")


def configure(level: str, format: str) -> None:
    """Send the log to standard error; standard output belongs to whatever the runner prints. May be called again."""
    handler = _Handler()
    handler.setFormatter(_Json() if format == "json" else _Text("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            stderr.line(self.format(record))
        except Exception:
            self.handleError(record)  # an entry whose arguments do not fit its text: a mistake of ours

    def flush(self) -> None:
        """At the end of the process; standard error is told of each line at once."""
        stderr.flush()


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    found: object = getattr(record, "fields", None)
    return found if isinstance(found, dict) else {}


class _Text(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is the library's
        # What others sent may hold line breaks, with which it could pose as another entry, and worse.
        said = [_field(name, value) for name, value in _fields(record).items()]
        record.message = " ".join([escaped(record.message), *said])
        return super().formatMessage(record)


def _field(name: str, value: object) -> str:
    text = str(value)
    plain = name in PAYLOADS or _PLAIN.fullmatch(text)
    return escaped(f"{name}={text if plain else json.dumps(text, ensure_ascii=False)}")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {name: value for name, value in _fields(record).items() if name not in entry}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return escaped(json.dumps(entry, ensure_ascii=False))
