"""The canonical configuration as frozen values: what every dialect translates into and every part is made from.

Durations are seconds (`Seconds`, a ``float``), sizes bytes, paths absolute. Equality is by value, which is how a
reload finds out what changed. Every field has a default but those a thing cannot exist without. Secrets live in
`Secret` values, whose ``repr`` shows nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import attrs

from mcpgateway.catalog.rules import Naming, ToolRules
from mcpgateway.config.limits import Limits, Parking
from mcpgateway.durations import Seconds


class Secret(str):
    """A string that no log, error or ``repr`` shows. ``str.__str__`` gives the text to whoever asks for it by name."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"

    def reveal(self) -> str:
        return str.__str__(self)


class Isolation(enum.Enum):
    """How clients share the links of a server (design: sharing a server between clients)."""

    AUTO = "auto"
    SHARED = "shared"
    MULTIPLEXED = "multiplexed"
    EXCLUSIVE = "exclusive"
    SESSION = "session"


class EraPolicy(enum.Enum):
    """Which era of MCP a server is spoken to in (design: any client to any server)."""

    AUTO = "auto"
    """The client's, where the server speaks it; otherwise its own, and calls are translated."""
    MIRROR = "mirror"
    """The client's, or not at all."""
    MODERN = "modern"
    LEGACY = "legacy"


@attrs.frozen
class Links:
    """Bounds on the links of one server, over all keys together."""

    min: int = 1
    max: int | None = None
    """``None``: 5, or for ``isolation: session`` 64 of a server on this machine, and as many as there are sessions of
    one with a URL."""
    acquire_timeout: Seconds = 10.0
    idle_timeout: Seconds = 60.0


@attrs.frozen
class Recovery:
    """What happens when a server fails: how soon it is tried again, and when it gets no more calls meanwhile."""

    initial: Seconds = 1.0
    """The pause after the first failure in a row; each further one doubles it. A call waits through what is left of a
    pause for 2 seconds, and fails at once where more is left."""
    maximum: Seconds = 60.0
    """The longest pause."""
    attempts: int = 10
    """Failed attempts in a row to start or reach the server, after which the gateway makes no more by itself: then only
    calls and listings cause attempts, one per pause."""
    failures: int = 5
    """Calls in a row that fail because of the server as a whole (broken connections, silence, HTTP 5xx), after which
    it gets no more until it has answered a ping."""


@attrs.frozen
class ServerConfig:
    """What every server has, whatever its transport. Subclasses are registered in `mcpgateway.config.adapters`."""

    type: ClassVar[str]
    pipe: ClassVar[bool] = False
    """All messages of a link share one stream, which does not say which call a server's request is about."""
    local: ClassVar[bool] = False
    """Each link is a process or an object on this machine: clients share them unless told otherwise."""

    name: str
    enabled: bool = True
    title: str = ""
    """What people call it, where that is no legal name."""
    description: str = ""
    isolation: Isolation = Isolation.AUTO
    era: EraPolicy = EraPolicy.AUTO
    """The era in which the server is spoken to: that of the client where it can be (``auto``), that or none
    (``mirror``), or always the same."""
    links: Links = Links()
    timeout: Seconds = 60.0
    """Seconds for a call; renewed by progress, up to ``max_timeout``."""
    max_timeout: Seconds = 3600.0
    startup_timeout: Seconds = 60.0
    """Seconds for starting and shaking hands; ``npx`` and ``uvx`` may have to download first."""
    max_calls: int = 1000
    """Calls that may be with the server at a time, those that wait for a link included; further ones are refused."""
    recovery: Recovery = Recovery()
    tools: ToolRules = ToolRules()
    prefix: str | None = None
    """What stands before the separator in prefixed names; the server's name where not given."""


@attrs.frozen
class StdioServer(ServerConfig):
    type: ClassVar[str] = "stdio"
    pipe: ClassVar[bool] = True
    local: ClassVar[bool] = True

    command: str = attrs.field(kw_only=True)
    args: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    env: Mapping[str, Secret] = attrs.field(factory=dict, kw_only=True)
    """Added to the gateway's own environment."""
    cwd: Path | None = attrs.field(default=None, kw_only=True)
    stderr_lines: int = attrs.field(default=10, kw_only=True)
    """Lines of its standard error that are logged per second, after a burst of 20 times as many; others are counted."""


@attrs.frozen
class CertAndKey:
    """Two PEM files: a certificate, with those between it and its authority after it, and its key."""

    cert: Path
    key: Path


@attrs.frozen
class Tls:
    """Whom an encrypted connection to a server trusts, and who it says the gateway is."""

    client_cert: CertAndKey | None = None
    """Who the gateway is, for servers that ask for a certificate. The key must not be encrypted."""
    ca: Path | None = None
    """A PEM file of authorities to be trusted beside those of the system."""


@attrs.frozen
class HttpOptions(Tls):
    """How the connections to an HTTP server are made."""

    proxy: Secret | None = None
    """``http://`` or ``https://`` URL of a proxy, with user and password if it asks for them; empty or ``none`` for no
    proxy at all. Where it is not given, ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` of the
    gateway's environment decide; they are never about this machine."""
    http2: bool = False
    """Offer HTTP/2 to an ``https://`` server; one that does not speak it gets HTTP/1.1. A connection carries one
    request at a time all the same."""


@attrs.frozen
class HttpServer(ServerConfig):
    """``type: streamable-http``."""

    type: ClassVar[str] = "streamable-http"

    url: str = attrs.field(kw_only=True)
    headers: Mapping[str, Secret] = attrs.field(factory=dict, kw_only=True)
    """Sent with every request to the server; they win over the gateway's own."""
    http: HttpOptions = attrs.field(default=HttpOptions(), kw_only=True)
    connect_timeout: Seconds = attrs.field(default=10.0, kw_only=True)
    """Name look-up, TCP, proxy and TLS together."""
    first_byte_timeout: Seconds | None = attrs.field(default=None, kw_only=True)
    """From a request sent to the head of its response; where not given, ``timeout`` decides. Servers that answer with
    plain JSON send the head when the call is done."""
    stall_timeout: Seconds | None = attrs.field(default=None, kw_only=True)
    """The longest silence within a response. Where not given: 30 seconds within a body, and within an event stream as
    long as the call may take. Not for streams of what belongs to no call."""


@attrs.frozen
class SseServer(HttpServer):
    """``type: sse``: HTTP+SSE of revision 2024-11-05, which Streamable HTTP has replaced."""

    type: ClassVar[str] = "sse"
    pipe: ClassVar[bool] = True

    first_byte_timeout: Seconds | None = attrs.field(default=None, kw_only=True)
    """How long the answer to a message that was sent, 202, is waited for; where not given, ``timeout`` decides. A call
    goes on without it: what counts is what comes on the stream."""
    stall_timeout: Seconds | None = attrs.field(default=None, kw_only=True)
    """The longest silence of the event stream, after which the server counts as gone; where not given, it may be silent
    for ever. Many servers send something every 15 or 30 seconds."""


@attrs.frozen
class Keepalive:
    """How a connection that broke without a word is found out."""

    interval: Seconds = 30.0
    """Between two pings."""
    timeout: Seconds = 10.0
    """How long the server may be silent after a ping, and take nothing although something waits for it. Then the
    connection is given up."""


@attrs.frozen
class WebSocketServer(ServerConfig):
    """``type: websocket``, the type of ``ws://`` and ``wss://`` URLs."""

    type: ClassVar[str] = "websocket"
    pipe: ClassVar[bool] = True

    url: str = attrs.field(kw_only=True)
    headers: Mapping[str, Secret] = attrs.field(factory=dict, kw_only=True)
    """Sent with the handshake; they win over the gateway's own."""
    tls: Tls = attrs.field(default=Tls(), kw_only=True)
    connect_timeout: Seconds = attrs.field(default=10.0, kw_only=True)
    """Name look-up, TCP and TLS together."""
    keepalive: Keepalive = attrs.field(default=Keepalive(), kw_only=True)


@attrs.frozen
class InProcessServer(ServerConfig):
    """A server object of the ``mcp`` SDK, hosted inside the gateway's process."""

    type: ClassVar[str] = "in-process"
    pipe: ClassVar[bool] = True
    local: ClassVar[bool] = True

    module: str = attrs.field(kw_only=True)
    """``package.module:attribute``; the attribute is a server object or a function that returns one."""


@attrs.frozen
class Reconnect:
    """How often an upstream is dialled again when it cannot be reached, or its connection has ended."""

    enabled: bool = True
    """Without it, an upstream that cannot be reached, or that closes its connection, is left alone until a reload."""
    initial: Seconds = 1.0
    """The pause after the first failure or drop in a row."""
    maximum: Seconds = 600.0
    """The longest pause; chance shortens each by up to a tenth."""
    multiplier: float = 2.0
    """By how much each further pause is longer than the one before it."""
    stable: Seconds = 60.0
    """How long a connection has to last for the pauses to begin anew from ``initial``."""
    refused: Seconds = 60.0
    """The shortest pause after the upstream has refused the token, or closed with code 4004."""


class OnToolsChanged(enum.Enum):
    """How an upstream learns that the tools have changed."""

    NOTIFY = "notify"
    """By ``notifications/tools/list_changed``, as MCP has it."""
    RECONNECT = "reconnect"
    """By a new connection, for clouds that list tools only then."""


@attrs.frozen
class UpstreamConfig:
    """A WebSocket that the gateway dials, and whose far end then is a client: an AI cloud."""

    name: str
    endpoint: Secret
    """``ws://`` or ``wss://`` URL, its token with it."""
    namespace: str = ""
    """What the upstream sees; empty for what ``/mcp`` shows."""
    enabled: bool = True
    headers: Mapping[str, Secret] = attrs.field(factory=dict)
    """Sent with the handshake."""
    tls: Tls = Tls()
    connect_timeout: Seconds = 30.0
    """Name look-up, TCP, TLS and the WebSocket handshake together."""
    reconnect: Reconnect = Reconnect()
    keepalive: Keepalive = Keepalive()
    call_deadline: Seconds | None = None
    """A call that takes longer is answered with a tool error, and cancelled at its server."""
    on_tools_changed: OnToolsChanged = OnToolsChanged.NOTIFY
    message_bytes: int = 4 * 1024 * 1024
    """The longest message that is taken from the upstream; a longer one ends the connection."""
    reply_bytes: int | None = None
    """The longest message that the upstream takes; a longer reply becomes an error that says so, and a longer list of
    tools loses those at its end, with a warning in the log that names them. At least 1024; ``None``: no bound."""


@attrs.frozen
class NamespaceConfig:
    name: str
    servers: tuple[str, ...]
    description: str = ""
    naming: Naming = Naming()
    tools: ToolRules = ToolRules()


@attrs.frozen
class Listen:
    host: str = "127.0.0.1"
    port: int = 8080
    cors: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    tls: CertAndKey | None = None
    stream_after: Seconds | None = 10.0
    """Seconds, and up to a quarter more, after which the response to a call that nothing is known of yet begins as an
    event stream; ``None``: never. Comments keep that alive on its way through proxies, and legacy clients can resume
    it. Only for clients whose ``Accept`` names ``text/event-stream``."""
    limits: Limits = Limits()


@attrs.frozen
class Logging:
    level: str = "info"
    format: str = "text"
    verbose: bool = False
    """Log what tools are called with and what they answer, secrets left out."""
    payload: int = 2000
    """Characters that ``verbose`` shows of what a tool is called with, and of what it answers."""


@attrs.frozen
class Metrics:
    """Figures for Prometheus."""

    enabled: bool = False
    host: str = "127.0.0.1"
    """Of the listener at ``port``."""
    port: int | None = None
    """A listener of its own for ``/metrics`` and ``/health``; ``None``: they are where MCP is."""


class LoginShellMode(enum.Enum):
    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@attrs.frozen
class LoginShell:
    """Asking the user's login shell, once, for the directories of its ``PATH`` that the gateway's own lacks."""

    mode: LoginShellMode = LoginShellMode.AUTO
    """``auto``: only where a desktop or a service manager has started the gateway, with the system's ``PATH``."""
    timeout: Seconds = 5.0
    """Seconds that it has to answer; then children do without."""


@attrs.frozen
class Config:
    """A whole gateway."""

    listen: Listen = Listen()
    state_dir: Path = attrs.field(factory=lambda: Path("~/.local/state/mcp-gateway").expanduser())
    servers: Mapping[str, ServerConfig] = attrs.field(factory=dict)
    namespaces: Mapping[str, NamespaceConfig] = attrs.field(factory=dict)
    upstreams: tuple[UpstreamConfig, ...] = ()
    """Dialled by ``runners.bridge``, and by ``runners.gateway`` too."""
    naming: Naming = Naming()
    expose_servers: bool | None = None
    """Serve ``/mcp`` and ``/mcp/{server}`` beside configured namespaces; ``None``: only while there are none."""
    logging: Logging = Logging()
    metrics: Metrics = Metrics()
    login_shell: LoginShell = LoginShell()
    parking: Parking = Parking()
    insecure: bool = False
    """Listen on other than loopback without authentication."""
    startup_wait: Seconds = 5.0
    list_timeout: Seconds = 5.0
    shutdown_timeout: Seconds = 10.0
    page_size: int = 1000
    """Entries on a page of a merged listing; longer ones are paged."""
    lazy_above: int = 20
    """With more stdio servers than this, they start when first used instead of at start-up."""
    source: str = attrs.field(default="", eq=False)
    """The file it came from, for messages."""


def is_keyed(cls: type) -> bool:
    """Whether a file has such a thing under its name, which then is a key of its own nowhere."""
    return issubclass(cls, ServerConfig | NamespaceConfig)
