"""What tools are called with and what they answer, in the log: ``logging.verbose``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs
from msgspec import Raw

from mcpgateway.errors import GatewayError
from mcpgateway.jsonrpc import Message, error_reply
from mcpgateway.recording.lines import shortened
from mcpgateway.recording.redaction import Redactor

log = logging.getLogger("mcpgateway.calls")

LEVEL: Final = logging.INFO
NAME: Final = 200
"""Characters of a name that are shown."""

Fields: TypeAlias = "Mapping[str, float | str]"
"""What an entry says beside its text; see ``runners.logs``."""


@attrs.frozen
class Payloads:
    """Logs calls and what becomes of them, each as one entry, without ``secrets``; at most ``limit`` characters of a
    payload are shown. While the level of the log is too high for that, nothing is read."""

    secrets: frozenset[str] = attrs.field(repr=False)
    limit: int
    _redactor: Redactor = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(lambda self: Redactor(self.secrets), takes_self=True)
    )

    def called(self, fields: Fields, arguments: Raw) -> None:
        if log.isEnabledFor(LEVEL):
            self._log("tool call", fields, arguments=self._payload(arguments))

    def answered(self, fields: Fields, message: Message) -> None:
        if not log.isEnabledFor(LEVEL):
            return
        if message.result is not None:
            self._log("tool response", fields, result=self._payload(message.result))
        else:
            problem = error_reply(message)
            self._refused(fields, problem.reply_code, problem.message)

    def failed(self, fields: Fields, problem: BaseException) -> None:
        """The call ended without a reply of its server."""
        if not log.isEnabledFor(LEVEL):
            return
        if isinstance(problem, GatewayError):
            self._refused(fields, problem.code, problem.message)
        else:
            text = type(problem).__name__ if isinstance(problem, Exception) else "cancelled"
            self._log("tool response", fields, error_message=text)

    def _refused(self, fields: Fields, code: int, text: str) -> None:
        shown = shortened(self._redactor.text(text), self.limit)
        self._log("tool response", fields, error_code=code, error_message=shown)

    def _payload(self, raw: Raw) -> str:
        return self._redactor.payload(memoryview(raw), self.limit)

    def _log(self, text: str, fields: Fields, **more: str | int) -> None:
        """Log an entry with its fields, those that say something. A name may be a client's invention."""
        said = {name: self._name(value) for name, value in fields.items() if value != ""}
        log.log(LEVEL, text, extra={"fields": {**said, **more}})

    def _name(self, value: float | str) -> float | str:
        return shortened(self._redactor.text(value), NAME) if isinstance(value, str) else value
