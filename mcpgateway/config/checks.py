"""What a configuration means, beyond the kinds of its values: bounds, names, references. Pure.

Each check is a function over one part that yields what it finds. Nothing here shows the value of a header, of a
variable or of a URL.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from mcpgateway import durations
from mcpgateway.catalog.rules import Naming, ToolRules
from mcpgateway.config import names
from mcpgateway.config.document import Address, did_you_mean
from mcpgateway.config.limits import Limits, Parking
from mcpgateway.config.model import (
    Config,
    HttpOptions,
    HttpServer,
    InProcessServer,
    Links,
    Listen,
    Logging,
    Metrics,
    NamespaceConfig,
    Reconnect,
    Recovery,
    Secret,
    ServerConfig,
    StdioServer,
    Tls,
    UpstreamConfig,
    WebSocketServer,
)
from mcpgateway.config.plan import plans
from mcpgateway.config.proxies import is_loopback, is_no_proxy, proxy_problem
from mcpgateway.config.structuring import Finding
from mcpgateway.config.urls import url_problem

RESERVED = frozenset(
    "mcp stream sse message messages ws tools health livez readyz metrics namespaces analytics deploy delete "
    "services sessions api admin oauth static .well-known".split()
)
"""First segments of paths that the gateway serves itself."""

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

REPLY_BYTES = 1024
"""What every upstream has to take: the errors that stand in for what is too long have fewer bytes."""

_Part = TypeVar("_Part", ServerConfig, NamespaceConfig)

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\sA-Z/?#@*]+")
_HOST = re.compile(r"[^\s/?#@*]+")
_SEPARATOR = re.compile(r"[A-Za-z0-9_-]{1,4}")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OBJECT = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")


def check(
    config: Config,
    *,
    servers: Collection[str] | None,
    namespaces: Collection[str] | None,
    is_file: Callable[[Path], bool],
) -> list[Finding]:
    """Everything that is wrong or odd with a configuration.

    ``servers`` and ``namespaces`` are the names that the file gives, those that did not fit included, or ``None`` where
    it cannot be told; ``is_file`` looks for a file.
    """
    return [
        *_gateway(config),
        *_listen(config.listen, config.insecure, is_file),
        *_parking(config.parking),
        *_logging(config.logging),
        *_metrics(config.metrics, config.insecure),
        *_naming(config.naming, ("naming",)),
        *_each("servers", config.servers, lambda server, at: _server(server, at, is_file)),
        *_each("namespaces", config.namespaces, lambda namespace, at: _namespace(namespace, at, servers)),
        *_upstreams(config, namespaces, is_file),
    ]


# ---- the gateway -----------------------------------------------------------------------------------------------------


def _gateway(config: Config) -> Iterator[Finding]:
    if config.lazy_above < 0:
        yield Finding(("lazy_above",), "must be 0 or more")
    if config.page_size < 1:
        yield Finding(("page_size",), "must be 1 or more")
    if config.login_shell.timeout <= 0:
        yield Finding(("login_shell", "timeout"), "must be more than 0s")


def _listen(listen: Listen, insecure: bool, is_file: Callable[[Path], bool]) -> Iterator[Finding]:
    at: Address = ("listen",)
    yield from _bound(listen.host, listen.port, insecure, at)
    for index, origin in enumerate(listen.cors):
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
            text = "is no origin as browsers send it, such as 'https://example.com': nothing behind the host and port"
            yield Finding((*at, "cors", index), text)
    for index, host in enumerate(listen.allowed_hosts):
        if not _HOST.fullmatch(host):
            text = "is no host, such as 'example.com' or 'example.com:8080': no scheme, no path, and no wildcard"
            yield Finding((*at, "allowed_hosts", index), text)
    if listen.tls is not None:
        yield from _files(attrs.asdict(listen.tls), (*at, "tls"), is_file)
    yield from _positive(listen, ("stream_after",), at)
    yield from _limits(listen.limits, (*at, "limits"))


def _bound(host: str, port: int | None, insecure: bool, at: Address) -> Iterator[Finding]:
    """Where a listener is opened."""
    if port is not None and not 0 <= port <= 65535:
        yield Finding((*at, "port"), f"must be 0 (any free port) to 65535, not {port}")
    if not host:
        yield Finding((*at, "host"), "is empty (127.0.0.1 for this machine only, 0.0.0.0 for all interfaces)")
    elif not insecure and not is_loopback(host):
        text = "reaches beyond this machine, and there is no authentication: say 'insecure: true' if that is meant"
        yield Finding((*at, "host"), text)


def _files(paths: Mapping[str, Path], at: Address, is_file: Callable[[Path], bool]) -> Iterator[Finding]:
    for key, path in paths.items():
        if not is_file(path):
            yield Finding((*at, key), f"no such file: {path}")


def _limits(limits: Limits, at: Address) -> Iterator[Finding]:
    bounds = attrs.asdict(limits)
    for name, bound in bounds.items():
        whole = name.removesuffix("_per_address").removesuffix("_per_session")
        if bound is not None and bound <= 0:
            yield Finding((*at, name), "must be more than 0")
        elif bound is not None and bound > bounds.get(whole, bound):
            yield Finding((*at, name), f"is more than {whole!r} ({bounds[whole]})")
    for name in ("bodies_bytes", "bodies_bytes_per_address"):
        if bounds[name] is not None and limits.body_bytes > bounds[name] > 0:
            yield Finding((*at, "body_bytes"), f"is more than {name!r} ({bounds[name]})")


def _parking(parking: Parking) -> Iterator[Finding]:
    yield from _positive(parking, ("ttl",), ("parking",))
    for key in "max", "max_per_principal":
        bound = getattr(parking, key)
        if bound is not None and bound < 1:
            yield Finding(("parking", key), "must be 1 or more")
    if parking.max_per_principal is not None and parking.max_per_principal > parking.max > 0:
        yield Finding(("parking", "max_per_principal"), f"is more than 'max' ({parking.max})")


def _logging(logging: Logging) -> Iterator[Finding]:
    yield from _one_of(logging.level, LEVELS, ("logging", "level"))
    yield from _one_of(logging.format, FORMATS, ("logging", "format"))
    if logging.payload < 1:
        yield Finding(("logging", "payload"), "must be 1 or more")


def _metrics(metrics: Metrics, insecure: bool) -> Iterator[Finding]:
    yield from _bound(metrics.host, metrics.port, insecure, ("metrics",))


def _one_of(value: str, allowed: tuple[str, ...], at: Address) -> Iterator[Finding]:
    if value not in allowed:
        yield Finding(at, f"must be one of {', '.join(allowed)}{did_you_mean(value, list(allowed))}")


# ---- what servers and namespaces share -------------------------------------------------------------------------------


def _each(
    section: str, parts: Mapping[str, _Part], look: Callable[[_Part, Address], Iterator[Finding]]
) -> Iterator[Finding]:
    for name, part in parts.items():
        yield from _name(name, section)
        yield from look(part, (section, name))


def _name(name: str, section: str) -> Iterator[Finding]:
    if problem := names.problem(name):
        yield Finding((section, name), problem)
    elif name in RESERVED:
        text = f"the gateway serves /{name} itself, so this is reachable at /mcp/{name} only"
        yield Finding((section, name), text, odd=True)


def _naming(naming: Naming, at: Address) -> Iterator[Finding]:
    if not _SEPARATOR.fullmatch(naming.separator):
        yield Finding((*at, "separator"), "must be 1 to 4 letters, digits, '_' or '-'")


def _tools(tools: ToolRules, at: Address) -> Iterator[Finding]:
    for original, renamed in tools.rename.items():
        if not renamed:
            yield Finding((*at, "rename", original), "is empty")
    for target, count in Counter(tools.rename.values()).items():
        if count > 1:
            originals = " and ".join(repr(name) for name, renamed in tools.rename.items() if renamed == target)
            yield Finding((*at, "rename"), f"{originals} are all renamed to {target!r}")


# ---- namespaces ------------------------------------------------------------------------------------------------------


def _namespace(namespace: NamespaceConfig, at: Address, servers: Collection[str] | None) -> Iterator[Finding]:
    at_servers = (*at, "servers")
    if not namespace.servers:
        yield Finding(at_servers, "names no server")
    for index, name in enumerate(namespace.servers):
        if servers is not None and name not in servers:
            yield Finding((*at_servers, index), f"there is no server {name!r}{did_you_mean(name, list(servers))}")
        if name in namespace.servers[:index]:
            yield Finding((*at_servers, index), f"server {name!r} is named twice")
    yield from _naming(namespace.naming, (*at, "naming"))
    yield from _tools(namespace.tools, (*at, "tools"))


# ---- upstreams -------------------------------------------------------------------------------------------------------


def _upstreams(
    config: Config, namespaces: Collection[str] | None, is_file: Callable[[Path], bool]
) -> Iterator[Finding]:
    taken = [upstream.name for upstream in config.upstreams]
    for index, upstream in enumerate(config.upstreams):
        at: Address = ("upstreams", index)
        if problem := names.upstream_problem(upstream.name):
            yield Finding((*at, "name"), problem)
        if upstream.name in taken[:index]:
            yield Finding((*at, "name"), f"upstream {upstream.name!r} is given twice: each needs a name of its own")
        if namespaces is not None:
            yield from _seen(upstream.namespace, at, {*plans(config), *namespaces})
        yield from _upstream(upstream, at, is_file)


def _seen(namespace: str, at: Address, known: Collection[str]) -> Iterator[Finding]:
    """The namespace that an upstream sees."""
    if not namespace and namespace not in known:
        text = "needs 'namespace': beside configured ones there is no view of all servers"
        yield Finding(at, f"{text} (or say 'expose_servers: true')")
    elif namespace not in known:
        hint = did_you_mean(namespace, [each for each in known if each])
        yield Finding((*at, "namespace"), f"there is no namespace {namespace!r}{hint}")


def _upstream(upstream: UpstreamConfig, at: Address, is_file: Callable[[Path], bool]) -> Iterator[Finding]:
    endpoint = upstream.endpoint.reveal()
    problem = url_problem(endpoint, schemes=("ws", "wss"))
    if problem:
        yield Finding((*at, "endpoint"), problem)
    elif "#" in endpoint:
        yield Finding((*at, "endpoint"), "must not hold '#': what follows it is sent to nobody, a token least of all")
    yield from _entries(upstream.headers, (*at, "headers"), HEADER_NAME, "\r\n\0", "line breaks or NUL")
    yield from _positive(upstream, ("connect_timeout", "call_deadline"), at)
    yield from _reconnect(upstream.reconnect, (*at, "reconnect"))
    yield from _positive(upstream.keepalive, ("interval", "timeout"), (*at, "keepalive"))
    if upstream.message_bytes < 1:
        yield Finding((*at, "message_bytes"), "must be 1 or more")
    if upstream.reply_bytes is not None and upstream.reply_bytes < REPLY_BYTES:
        yield Finding(
            (*at, "reply_bytes"), f"must be {REPLY_BYTES} or more: what stands in for a longer reply is a reply"
        )
    yield from _tls(upstream.tls, (*at, "tls"), is_file, "" if endpoint.lower().startswith("wss:") else "wss://")


def _reconnect(reconnect: Reconnect, at: Address) -> Iterator[Finding]:
    yield from _pauses(reconnect, at, "an upstream that fails at once would be dialled")
    if not 1 <= reconnect.multiplier < math.inf:
        yield Finding((*at, "multiplier"), "must be 1 or more: each pause is as much longer than the one before it")


# ---- servers ---------------------------------------------------------------------------------------------------------


def _server(server: ServerConfig, at: Address, is_file: Callable[[Path], bool]) -> Iterator[Finding]:
    yield from _links(server.links, (*at, "links"))
    yield from _recovery(server.recovery, (*at, "recovery"))
    yield from _tools(server.tools, (*at, "tools"))
    if server.max_calls < 1:
        yield Finding((*at, "max_calls"), "must be 1 or more")
    yield from _positive(server, ("timeout", "startup_timeout"), at)
    if server.max_timeout < server.timeout:
        yield Finding((*at, "timeout"), f"is longer than 'max_timeout' ({durations.format(server.max_timeout)})")
    match server:
        case StdioServer():
            yield from _stdio(server, at)
        case HttpServer():
            yield from _http(server, at, is_file)
        case WebSocketServer():
            yield from _websocket(server, at, is_file)
        case InProcessServer() if not _OBJECT.fullmatch(server.module):
            yield Finding((*at, "module"), "must be 'package.module:attribute'")


def _links(links: Links, at: Address) -> Iterator[Finding]:
    if links.min < 0:
        yield Finding((*at, "min"), "must be 0 or more")
    if links.max is not None and links.max < 1:
        yield Finding((*at, "max"), "must be 1 or more")
    elif links.max is not None and links.max < links.min:
        yield Finding((*at, "max"), f"is less than 'min' ({links.max} < {links.min})")


def _recovery(recovery: Recovery, at: Address) -> Iterator[Finding]:
    yield from _pauses(recovery, at, "a server that fails at once would be tried")
    for key in "attempts", "failures":
        if getattr(recovery, key) < 1:
            yield Finding((*at, key), "must be 1 or more")


def _stdio(server: StdioServer, at: Address) -> Iterator[Finding]:
    if not server.command.strip():
        yield Finding((*at, "command"), "is empty")
    for index, text in enumerate(server.args):
        if "\0" in text:
            yield Finding((*at, "args", index), "must not hold NUL")
    if server.stderr_lines < 0:
        yield Finding((*at, "stderr_lines"), "must be 0 or more")
    yield from _entries(server.env, (*at, "env"), re.compile(r"[^=\0]+"), "\0", "NUL")


def _http(server: HttpServer, at: Address, is_file: Callable[[Path], bool]) -> Iterator[Finding]:
    problem = url_problem(server.url)
    if problem:
        yield Finding((*at, "url"), problem)
    yield from _entries(server.headers, (*at, "headers"), HEADER_NAME, "\r\n\0", "line breaks or NUL")
    yield from _positive(server, ("connect_timeout", "first_byte_timeout", "stall_timeout"), at)
    yield from _http_options(server.http, (*at, "http"), is_file, secure=server.url.lower().startswith("https:"))


def _http_options(
    options: HttpOptions, at: Address, is_file: Callable[[Path], bool], *, secure: bool
) -> Iterator[Finding]:
    proxy = options.proxy and options.proxy.reveal()
    if proxy is not None and not is_no_proxy(proxy) and (problem := proxy_problem(proxy)):
        yield Finding((*at, "proxy"), problem)
    if options.http2 and not secure:
        yield Finding((*at, "http2"), "is for servers whose URL begins with https://")
    yield from _tls(options, at, is_file, "" if secure else "https://")


def _tls(tls: Tls, at: Address, is_file: Callable[[Path], bool], needed: str) -> Iterator[Finding]:
    """``needed`` is what the URL should begin with and does not; empty where it does."""
    if tls.client_cert is not None:
        yield from _files(attrs.asdict(tls.client_cert), (*at, "client_cert"), is_file)
    if tls.ca is not None:
        yield from _files({"ca": tls.ca}, at, is_file)
    for key in "client_cert", "ca":
        if getattr(tls, key) and needed:
            yield Finding((*at, key), f"is for servers whose URL begins with {needed}")


def _websocket(server: WebSocketServer, at: Address, is_file: Callable[[Path], bool]) -> Iterator[Finding]:
    problem = url_problem(server.url, schemes=("ws", "wss"))
    if problem:
        yield Finding((*at, "url"), problem)
    yield from _entries(server.headers, (*at, "headers"), HEADER_NAME, "\r\n\0", "line breaks or NUL")
    yield from _positive(server, ("connect_timeout",), at)
    yield from _positive(server.keepalive, ("interval", "timeout"), (*at, "keepalive"))
    yield from _tls(server.tls, (*at, "tls"), is_file, "" if server.url.lower().startswith("wss:") else "wss://")


def _pauses(part: Reconnect | Recovery, at: Address, otherwise: str) -> Iterator[Finding]:
    if part.initial <= 0:
        yield Finding((*at, "initial"), f"must be more than 0s: {otherwise} in a busy loop")
    elif part.maximum < part.initial:
        yield Finding((*at, "maximum"), f"is shorter than 'initial' ({durations.format(part.initial)})")


def _positive(part: object, keys: Sequence[str], at: Address) -> Iterator[Finding]:
    for key in keys:
        seconds = getattr(part, key)
        if seconds is not None and seconds <= 0:
            yield Finding((*at, key), "must be more than 0s")


def _entries(
    entries: Mapping[str, Secret], at: Address, legal: re.Pattern[str], forbidden: str, described: str
) -> Iterator[Finding]:
    for name, value in entries.items():
        if not legal.fullmatch(name):
            yield Finding((*at, name), "is no legal name")
        if set(forbidden) & set(value.reveal()):
            yield Finding((*at, name), f"the value must not hold {described}")
