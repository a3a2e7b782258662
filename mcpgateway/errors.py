"""Every way a call can fail, with whose fault it is.

Each class carries what the two outer protocols need: a JSON-RPC ``code`` and an HTTP ``status``. Foreign exceptions
(``OSError``, parser errors, TLS errors) are mapped to one of these once, at the boundary where they appear; nothing
above that boundary sees them. The codes are those of JSON-RPC 2.0 and MCP; the gateway's own failures are -32603,
because MCP 2026-07-28 reserves -32020 … -32099 for the specification and retires -32000 … -32019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

JSON: TypeAlias = "None | bool | int | float | str | list[JSON] | dict[str, JSON]"
"""A decoded JSON value."""

LAST_WORDS = "; its last words: "
"""What stands in a failure between what happened and what a child last said, which not everybody is to read."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022


class GatewayError(Exception):
    """A failure that a client may see: a JSON-RPC error and the HTTP status it travels with.

    ``message`` is written for the person who has to act on it and never holds a secret; ``data`` is JSON.
    """

    code: ClassVar[int] = INTERNAL_ERROR
    status: ClassVar[int] = 500
    request_id: bytes | None = None
    """The raw id of the request it answers, where it was found while the message was refused."""

    def __init__(self, message: str, *, data: Mapping[str, JSON] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


# ---- the client's fault --------------------------------------------------------------------------------------------


class ParseError(GatewayError):
    """The body is not JSON: syntax, UTF-8, or nesting too deep to read."""

    code = PARSE_ERROR
    status = 400


class InvalidRequest(GatewayError):
    """JSON, but not a JSON-RPC 2.0 message that this endpoint takes."""

    code = INVALID_REQUEST
    status = 400


class MethodNotFound(GatewayError):
    """A method that this revision of MCP, or this server, does not have."""

    code = METHOD_NOT_FOUND
    status = 404


class InvalidParams(GatewayError):
    """Parameters that do not fit, an unknown tool, prompt, resource or cursor."""

    code = INVALID_PARAMS
    status = 400


class HeaderMismatch(GatewayError):
    """An MCP header contradicts the body (2026-07-28)."""

    code = HEADER_MISMATCH
    status = 400


class UnsupportedVersion(GatewayError):
    """A protocol revision that is not served here; ``data`` lists those that are (2026-07-28)."""

    code = UNSUPPORTED_VERSION
    status = 400


class UnknownSession(GatewayError):
    """No such session: ended, expired, another principal's, or never opened. The client must initialise again."""

    code = INVALID_REQUEST
    status = 404


class UnknownNamespace(GatewayError):
    """No namespace or server of that name on this path."""

    code = INVALID_REQUEST
    status = 404


class Forbidden(GatewayError):
    """A Host or Origin that this listener does not serve."""

    code = INVALID_REQUEST
    status = 403


class TooBusy(GatewayError):
    """A bound of the gateway is reached (links, sessions, calls); the message names it."""

    status = 503
    retry_after: ClassVar[int] = 5
    """Seconds after which it is worth trying again."""


class TooMany(TooBusy):
    """The bound for one address is reached, not that of the gateway; ``rule`` is its key in ``listen.limits``."""

    code = INVALID_REQUEST
    status = 429

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(
            f"{message} (listen.limits.{rule})", data={"rule": rule, "retry_after_ms": self.retry_after * 1000}
        )


# ---- the server's fault --------------------------------------------------------------------------------------------


class ServerError(GatewayError):
    """A server behind the gateway could not answer; ``server`` names it."""

    status = 502
    unwell = False
    """Whether it says something about the server as a whole, and not only about this call."""

    def __init__(self, server: str, message: str, *, data: Mapping[str, JSON] | None = None) -> None:
        super().__init__(f"server {server!r}: {message}", data={"server": server, **(data or {})})
        self.server = server
        self.reason = message


class ServerUnavailable(ServerError):
    """Not started, not reachable, crashed, or refusing connections."""

    unwell = True

    def __init__(
        self, server: str, message: str, *, unsent: bool = False, data: Mapping[str, JSON] | None = None
    ) -> None:
        super().__init__(server, message, data=data)
        self.unsent = unsent
        """Nothing of the request can have been acted upon: it may be sent again, whatever it is."""


class NotStarted(ServerUnavailable):
    """There is nobody to shake hands with: a command that cannot be run, a stream or a socket that cannot be opened."""


class NotTried(ServerUnavailable):
    """The gateway does not try to reach the server just now: it keeps failing, is still starting, or is stopped."""


class ServerMisbehaved(ServerError):
    """Answered with something that is not MCP: wrong status, wrong body, wrong id."""


class ServerTimeout(ServerError):
    """Did not answer within its deadline. The server has been told to cancel."""

    status = 504
    unwell = True


class ServerSessionLost(ServerError):
    """The server no longer knows the session of this link (404): the client has to initialise again."""

    status = 404


class ErrorReply(GatewayError):
    """A server answered with a JSON-RPC error: its code, message and data, for callers in Python.

    Over the wire such an answer is passed on as it is and never becomes an exception.
    """

    def __init__(self, code: int, message: str, data: JSON = None) -> None:
        super().__init__(message, data=data if isinstance(data, dict) else None)
        self.reply_code = code
        self.reply_data = data


class EraMismatch(ServerError):
    """The client speaks one era of MCP and the server only the other.

    It has the code and the data of an unsupported protocol version, which is what a server of one era says to a client
    of the other: a client that speaks both then tries the other one.
    """

    code = UNSUPPORTED_VERSION
    status = 400

    def __init__(self, server: str, *, client: str, server_era: str, supported: Sequence[str] = ()) -> None:
        super().__init__(
            server,
            f"speaks only the {server_era} era of MCP, the client the {client} era, "
            "and calls are not translated between them here",
            data={"supported": list(supported), "client_era": client, "server_era": server_era},
        )


# ---- how a call ends without a reply --------------------------------------------------------------------------------


class CallEnded(GatewayError):
    """The call ended before its reply because somebody ended it; the server has been told to cancel."""


class ClientGone(CallEnded):
    """The client closed its connection, and its era says that this cancels the call."""

    status = 499


class CallCancelled(CallEnded):
    """The client cancelled the call; no reply is due."""


class CallOverdue(CallEnded):
    """The client waits no longer (``call_deadline`` of an upstream); the message is what it is told."""

    status = 504


class ShuttingDown(CallEnded):
    """The gateway is draining and the call did not finish in time."""

    status = 503


class Reconfigured(CallEnded):
    """The configuration of what a stream listens to has changed; its client is to listen anew."""

    status = 503


class ReplyTooLong(GatewayError):
    """An answer is longer than the client takes (``reply_bytes`` of an upstream)."""


# ---- ours ----------------------------------------------------------------------------------------------------------


class ConfigError(Exception):
    """Everything that is wrong with a configuration, all at once; each problem says where and what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
