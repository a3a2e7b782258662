"""The gateway: owns the servers and what their calls share, and knows the namespaces."""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import attrs
import trio

from mcpgateway import jsonrpc
from mcpgateway._version import VERSION
from mcpgateway.adapters.base import Adapter
from mcpgateway.adapters.factory import Commons, adapter_for
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.changes import Changes, ChangesStatistics
from mcpgateway.calls.client import Client, OnProgress
from mcpgateway.calls.interests import Interests
from mcpgateway.calls.merged import MergedNamespace
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.raw import RawNamespace
from mcpgateway.catalog.rules import Naming, NamingMode, ServerView, ToolRules, resolve_mode
from mcpgateway.config.model import Config, StdioServer
from mcpgateway.errors import JSON, UnknownNamespace
from mcpgateway.servers.server import Server, ServerStatistics
from mcpgateway.sessions.sealing import Sealer, load_keys
from mcpgateway.sessions.store import Session, SessionStore
from mcpgateway.wire.bounds import Bounds, BoundStatistics
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.login_path import LoginPath
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Sweeper

log = logging.getLogger("mcpgateway.server")

SERVER_INFO = jsonrpc.raw_of({"name": "mcpgateway", "version": VERSION})
"""How the gateway names itself, to clients and to servers."""


@attrs.frozen
class GatewayStatistics:
    """A gateway at one moment."""

    servers: tuple[ServerStatistics, ...]
    sessions: int
    waits: int
    """Calls and client connections whose deadlines are being kept."""
    changes: ChangesStatistics
    clients: Mapping[str, BoundStatistics]
    """What clients hold, by the key of its bound in ``listen.limits``."""


class Gateway:
    """Servers behind namespaces. Made by `mcpgateway.open_gateway`, or run with `run` in a nursery of your own.

    ``adapters`` replace the adapters of configured servers, by name: how tests and embedders bring their own.
    """

    def __init__(self, config: Config, adapters: Mapping[str, Adapter] | None = None) -> None:
        self.config = config
        self.poller = Poller()
        self.sweeper = Sweeper()
        self.bounds = Bounds(config.listen.limits)
        self.guard = Guard()
        self.login_path = LoginPath(config.login_shell, self.guard)
        self.dispatcher = Dispatcher(self.sweeper)
        node = secrets.token_hex(4)
        self.sealer = Sealer(partial(load_keys, config.state_dir / "secret"), node=node)
        self.sessions = SessionStore(
            node=node,
            bounds=self.bounds,
            idle_timeout=config.listen.limits.session_idle_timeout,
            ended=self._session_ended,
        )
        self._nursery: trio.Nursery | None = None
        self.changes = Changes(self.sessions, self.namespace, Interests(self.dispatcher, self._soon), self._soon)
        self.servers = self._make_servers(adapters or {})
        self._namespaces = self._make_namespaces()

    # ---- life --------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the servers until cancelled; started as soon as they are starting. Close with `aclose` first."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.sweeper.run)
            nursery.start_soon(self.poller.run)
            nursery.start_soon(self.sessions.reap)
            nursery.start_soon(self.login_path.run)
            for server in self.servers.values():
                nursery.start_soon(server.run, name=f"server {server.name}")
            nursery.start_soon(self._run_errands)
            task_status.started()

    async def _run_errands(self) -> None:
        """What servers are told and asked that no client waits for. Ends with the gateway, done or not."""
        async with trio.open_nursery() as self._nursery:
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def _soon(self, errand: Callable[[], Awaitable[None]]) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(_run, errand)

    async def aclose(self) -> None:
        """End all sessions and servers gracefully, side by side, within the bounds of their adapters."""
        self.sessions.close_all()
        async with trio.open_nursery() as closing:
            for server in self.servers.values():
                closing.start_soon(server.stop)
        await self.guard.aclose()

    async def ready(self) -> None:
        """Wait until every server has been tried once."""
        for server in self.servers.values():
            await server.tried.wait()

    @property
    def is_ready(self) -> bool:
        return all(server.tried.is_set() for server in self.servers.values())

    def statistics(self) -> GatewayStatistics:
        servers = tuple(server.statistics() for server in self.servers.values())
        return GatewayStatistics(
            servers, len(self.sessions), len(self.sweeper), self.changes.statistics(), self.bounds.statistics()
        )

    def _session_ended(self, session: Session) -> None:
        self.changes.interests.ended(session)
        namespace = self._namespaces.get(session.namespace)
        for server in namespace.servers if namespace is not None else ():
            server.end_owner(session.id)

    # ---- what there is -----------------------------------------------------------------------------------------------

    def _make_servers(self, adapters: Mapping[str, Adapter]) -> dict[str, Server]:
        commons = Commons(self.poller, self.guard, self.login_path)
        enabled = {name: config for name, config in self.config.servers.items() if config.enabled}
        children = sum(isinstance(config, StdioServer) for config in enabled.values())
        return {
            name: Server(
                config,
                adapters.get(name) or adapter_for(config, commons),
                client_info=SERVER_INFO,
                random=random.random,
                lazy=isinstance(config, StdioServer) and children > self.config.lazy_above,
                heard=self.changes.heard,
                relinked=self.changes.relinked,
            )
            for name, config in enabled.items()
        }

    def _make_namespaces(self) -> dict[str, Namespace]:
        config = self.config
        found: dict[str, Namespace] = {}
        if config.expose_servers or (config.expose_servers is None and not config.namespaces):
            found[""] = self._namespace("", list(self.servers), config.naming, (), configured=False)
            for name in self.servers:
                found[name] = self._namespace(name, [name], Naming(), (), configured=True)
        for name, namespace in config.namespaces.items():
            servers = [server for server in namespace.servers if server in self.servers]
            found[name] = self._namespace(name, servers, namespace.naming, (namespace.tools,), configured=True)
        return found

    def _namespace(
        self, name: str, names: list[str], naming: Naming, rules: tuple[ToolRules, ...], *, configured: bool
    ) -> Namespace:
        mode = resolve_mode(naming.mode, configured=configured, servers=len(names))
        views = {
            server: ServerView(self.servers[server].config.prefix, (self.servers[server].config.tools, *rules))
            for server in names
        }
        if mode is NamingMode.RAW and len(names) == 1:
            server = self.servers[names[0]]
            view = views[server.name]
            wait = self.config.startup_wait
            return RawNamespace(name, server, view, self.dispatcher, self.changes, startup_wait=wait)
        return MergedNamespace(
            name,
            [self.servers[server] for server in names],
            views,
            self.dispatcher,
            self.changes,
            naming=naming,
            mode=mode,
            server_info=SERVER_INFO,
            startup_wait=self.config.startup_wait,
            list_timeout=self.config.list_timeout,
            sealer=self.sealer,
            sweeper=self.sweeper,
            page_size=self.config.page_size,
        )

    def namespace(self, name: str = "") -> Namespace | None:
        """The namespace that clients find at ``/mcp/{name}``; the empty name is ``/mcp`` itself."""
        return self._namespaces.get(name)

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        return self._namespaces

    # ---- for Python --------------------------------------------------------------------------------------------------

    def client(self, namespace: str = "") -> Client:
        """A client of a namespace, in this process.

        :raises UnknownNamespace: there is none of that name
        """
        found = self._namespaces.get(namespace)
        if found is None:
            raise UnknownNamespace(f"there is no namespace or server {namespace!r}")
        return Client(found)

    async def list_tools(self, *, namespace: str = "") -> list[JSON]:
        """See `mcpgateway.calls.client.Client.list_tools`."""
        return await self.client(namespace).list_tools()

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, object] | None = None,
        *,
        namespace: str = "",
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> dict[str, JSON]:
        """See `mcpgateway.calls.client.Client.call_tool`."""
        return await self.client(namespace).call_tool(name, arguments, timeout=timeout, on_progress=on_progress)

    async def list_prompts(self, *, namespace: str = "") -> list[JSON]:
        """See `mcpgateway.calls.client.Client.list_prompts`."""
        return await self.client(namespace).list_prompts()

    async def get_prompt(
        self, name: str, arguments: Mapping[str, str] | None = None, *, namespace: str = ""
    ) -> dict[str, JSON]:
        """See `mcpgateway.calls.client.Client.get_prompt`."""
        return await self.client(namespace).get_prompt(name, arguments)

    async def list_resources(self, *, namespace: str = "") -> list[JSON]:
        """See `mcpgateway.calls.client.Client.list_resources`."""
        return await self.client(namespace).list_resources()

    async def list_resource_templates(self, *, namespace: str = "") -> list[JSON]:
        """See `mcpgateway.calls.client.Client.list_resource_templates`."""
        return await self.client(namespace).list_resource_templates()

    async def read_resource(self, uri: str, *, namespace: str = "") -> dict[str, JSON]:
        """See `mcpgateway.calls.client.Client.read_resource`."""
        return await self.client(namespace).read_resource(uri)


async def _run(errand: Callable[[], Awaitable[None]]) -> None:
    """Run an errand; what goes wrong in it is nobody else's misfortune."""
    try:
        await errand()
    except Exception:
        log.exception("an errand of the gateway failed")
