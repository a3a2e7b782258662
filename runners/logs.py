"""How a runner logs: to standard error, as text for people or as JSON lines for machines, and never waiting for it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from runners import stderr

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


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


def _one_line(text: str) -> str:
    """What others sent may hold line breaks, with which it could pose as another entry."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


class _Text(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is the library's
        record.message = _one_line(record.message)
        return super().formatMessage(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)
