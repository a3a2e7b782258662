"""A demo server that tells the time: ``python -m mcpgateway.demo.clock``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from mcpgateway.demo.server import MiniServer, Tool, ToolError, serve_stdio
from mcpgateway.errors import JSON

_ZONE: Final[JSON] = {"type": "string", "description": "IANA time zone such as Europe/Vienna; UTC if left out"}
_READ_ONLY: Final[dict[str, JSON]] = {"readOnlyHint": True, "openWorldHint": False}
_MOMENT: Final[JSON] = {
    "type": "object",
    "properties": {
        "time": {"type": "string", "description": "ISO 8601, to the second, with offset"},
        "timezone": {"type": "string"},
        "weekday": {"type": "string"},
    },
    "required": ["time", "timezone", "weekday"],
}


class Clock(MiniServer):
    """Tools ``now`` and ``convert``. ``time`` gives the current time, with a zone."""

    name = "clock"
    instructions = "Tells the time anywhere, and converts times between zones."

    def __init__(self, time: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__()
        self._time = time
        self.tools = {
            "now": Tool(
                {
                    "title": "Current time",
                    "description": "The current date and time in a time zone.",
                    "inputSchema": {"type": "object", "properties": {"timezone": _ZONE}},
                    "outputSchema": _MOMENT,
                    "annotations": _READ_ONLY,
                },
                self._now,
            ),
            "convert": Tool(
                {
                    "title": "Convert a time",
                    "description": "A time given in one zone, told in another.",
                    "inputSchema": {
                        "type": "object",
                        "properties": {
                            "time": {"type": "string", "description": "ISO 8601, such as 2026-07-28T09:30"},
                            "from": _ZONE,
                            "to": _ZONE,
                        },
                        "required": ["time"],
                    },
                    "outputSchema": _MOMENT,
                    "annotations": {**_READ_ONLY, "idempotentHint": True},
                },
                self._convert,
            ),
        }

    def _now(self, arguments: dict[str, JSON]) -> dict[str, JSON]:
        return _moment(self._time(), _zone_name(arguments, "timezone"))

    def _convert(self, arguments: dict[str, JSON]) -> dict[str, JSON]:
        text = arguments.get("time")
        try:
            moment = datetime.fromisoformat(text if isinstance(text, str) else "")
        except ValueError:
            raise ToolError("'time' must be an ISO 8601 date and time, such as 2026-07-28T09:30") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=_zone(_zone_name(arguments, "from")))
        return _moment(moment, _zone_name(arguments, "to"))


def _zone_name(arguments: dict[str, JSON], argument: str) -> str:
    name = arguments.get(argument, "UTC")
    if not isinstance(name, str):
        raise ToolError(f"{argument!r} must be a string")
    return name


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # zoneinfo needs a database for it, which not every machine has
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ToolError(f"no time zone {name[:80]!r}") from None


def _moment(moment: datetime, zone: str) -> dict[str, JSON]:
    try:
        there = moment.astimezone(_zone(zone))
    except OverflowError:
        raise ToolError("that time is out of range") from None
    return {"time": there.isoformat(timespec="seconds"), "timezone": zone, "weekday": f"{there:%A}"}


if __name__ == "__main__":
    serve_stdio(Clock())
