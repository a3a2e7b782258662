"""The gateway: owns the servers and what their calls share, knows the namespaces, and changes both while it runs."""

from __future__ import annotations

import logging
import math
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from mcpgateway import jsonrpc
from mcpgateway._version import VERSION
from mcpgateway.adapters.base import Adapter
from mcpgateway.adapters.factory import Commons, adapter_for
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.changes import Changes, ChangesStatistics, Shown
from mcpgateway.calls.client import Client, Clients
from mcpgateway.calls.interests import Interests
from mcpgateway.calls.legacy_clients import LegacyClients
from mcpgateway.calls.listening import Listening
from mcpgateway.calls.marks import Marks
from mcpgateway.calls.merged import MergedNamespace
from mcpgateway.calls.modern_clients import ModernClients
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.parking import Parking, ParkingStatistics
from mcpgateway.calls.raw import RawNamespace
from mcpgateway.calls.watches import Watches
from mcpgateway.config.differences import Differences, compare
from mcpgateway.config.model import Config, ServerConfig, StdioServer
from mcpgateway.config.plan import Plan, enabled, plans
from mcpgateway.errors import Reconfigured, UnknownNamespace
from mcpgateway.protocol.revisions import Era
from mcpgateway.recording.events import Recorder
from mcpgateway.recording.tally import Tally
from mcpgateway.servers.server import Server, ServerStatistics
from mcpgateway.sessions.caller import ModernCallers
from mcpgateway.sessions.sealing import Sealer, load_keys
from mcpgateway.sessions.store import Session, SessionStore
from mcpgateway.wire.bounds import Bounds, BoundStatistics
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.login_path import LoginPath
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Sweeper

if TYPE_CHECKING:
    from mcpgateway.calls.observed import Observer

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
    parking: ParkingStatistics
    clients: Mapping[str, BoundStatistics]
    """What clients hold, by the key of its bound in ``listen.limits``."""


class Gateway(Clients):
    """Servers behind namespaces. Made by `mcpgateway.open_gateway`, or run with `run` in a nursery of your own.

    ``adapters`` replace the adapters of configured servers, by name: how tests and embedders bring their own.
    ``embedded`` are servers beside the configured ones, which stay whatever the configuration.
    """

    def __init__(
        self,
        config: Config,
        adapters: Mapping[str, Adapter] | None = None,
        *,
        embedded: Mapping[str, ServerConfig] | None = None,
    ) -> None:
        self.began = time.monotonic()
        self._embedded = dict(embedded or {})
        self._adapters = dict(adapters or {})
        self.config = config = self._whole(config)
        self.poller = Poller()
        self.sweeper = Sweeper()
        self.bounds = Bounds(config.listen.limits)
        self.guard = Guard()
        self.login_path = LoginPath(config.login_shell, self.guard)
        self.dispatcher = Dispatcher(self.sweeper)
        self.dispatcher.heading = Marks(self.dispatcher)
        node = secrets.token_hex(4)
        self.sealer = Sealer(partial(load_keys, config.state_dir / "secret"), node=node)
        self.sessions = SessionStore(
            node=node,
            bounds=self.bounds,
            idle_timeout=config.listen.limits.session_idle_timeout,
            ended=self._session_ended,
        )
        self.callers = ModernCallers()
        self._life: trio.Nursery | None = None
        self._nursery: trio.Nursery | None = None
        self._retiring: set[Server] = set()
        """Servers that are no longer configured and finish their calls."""
        self._former: dict[str, set[Server]] = {}
        """Servers that a namespace had under an earlier configuration: its sessions may still own links there."""
        self._was_ready = False
        self._closed = False
        interests = Interests(self.dispatcher, self._soon)
        watches = Watches(self.dispatcher, interests.subscriptions, self._soon)
        self.changes = Changes(self.sessions, self._plain, interests, watches, self._soon)
        legacy = LegacyClients(self.dispatcher, watches, self.sweeper)
        self.dispatcher.crossings[Era.LEGACY] = legacy.call
        self.dispatcher.crossings_begun[Era.LEGACY] = legacy.begin
        self.parking = Parking(self.dispatcher, self.sealer, self.sweeper, config.parking)
        modern = ModernClients(self.dispatcher, self.parking, Listening(self.changes, self.sweeper))
        self.dispatcher.crossings[Era.MODERN] = modern.cross
        self.dispatcher.crossings_begun[Era.MODERN] = modern.begin
        self._commons = Commons(self.poller, self.guard, self.login_path, dict(os.environ))
        self.servers = {name: self._make_server(server) for name, server in enabled(config).items()}
        self._namespaces = {name: self._make_namespace(plan) for name, plan in plans(config).items()}
        self.tally = Tally()
        self.recorder = Recorder(self.tally.take)
        self._observer: Observer | None = None
        self._observe()

    # ---- life --------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the servers until cancelled; started as soon as they are starting. Close with `aclose` first."""
        if self._life is not None:
            raise RuntimeError("this gateway runs already: give Service one made with Gateway(config), which it runs")
        async with trio.open_nursery() as nursery:
            self._life = nursery
            try:
                nursery.start_soon(self.sweeper.run)
                nursery.start_soon(self.poller.run)
                nursery.start_soon(self.sessions.reap)
                nursery.start_soon(self.login_path.run)
                for server in self.servers.values():
                    nursery.start_soon(server.run, name=f"server {server.name}")
                nursery.start_soon(self._run_errands)
                nursery.start_soon(self.parking.run)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._life = None

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

    async def aclose(self, by: float = math.inf) -> None:
        """End all sessions and servers gracefully, side by side, within the bounds of their adapters.

        ``by`` is the time (absolute, trio's) at which whatever has not ended by itself is ended: children are killed.
        """
        self._closed = True
        self.sessions.close_all()
        if self._life is not None:
            self._life.start_soon(self._cut, by)
        await self.parking.aclose()
        async with trio.open_nursery() as closing:
            for server in (*self.servers.values(), *self._retiring):
                closing.start_soon(server.stop)
        await self.guard.aclose()

    async def _cut(self, by: float) -> None:
        await trio.sleep_until(by)
        log.warning("not everything has ended in time; ending the rest at once")
        assert self._life is not None
        self._life.cancel_scope.cancel(reason="the time of the gateway is over")

    async def ready(self) -> None:
        """Wait until every server that there is now has been tried once."""
        for server in list(self.servers.values()):
            await server.tried.wait()

    @property
    def waiting_for(self) -> list[str]:
        """The servers without which the gateway is not ready yet. Those that a reload adds do not make it unready."""
        return [] if self._was_ready else [name for name, server in self.servers.items() if not server.tried.is_set()]

    @property
    def is_ready(self) -> bool:
        return not self.waiting_for

    def statistics(self) -> GatewayStatistics:
        servers = tuple(server.statistics() for server in (*self._retiring, *self.servers.values()))
        return GatewayStatistics(
            servers,
            len(self.sessions),
            len(self.sweeper),
            self.changes.statistics(),
            self.parking.statistics(),
            self.bounds.statistics(),
        )

    def _session_ended(self, session: Session) -> None:
        self.changes.ended(session)
        namespace = self._namespaces.get(session.namespace)
        for server in {*(namespace.servers if namespace else ()), *self._former.get(session.namespace, ())}:
            server.end_owner(session.id)

    # ---- another configuration ---------------------------------------------------------------------------------------

    def reconfigure(self, config: Config, adapters: Mapping[str, Adapter] | None = None) -> Differences:
        """Be the gateway of another configuration from now on; what is equal in both keeps running as it is.

        Changed and removed servers finish the calls they have, for up to ``shutdown_timeout``; clients keep their
        sessions and are told which lists have changed. Sessions of namespaces that have gone are closed. Added servers
        are started, and not waited for. ``adapters`` are as in the constructor, beside those given before.

        Does not look at ``listen`` beyond the bounds on sessions: that is the front's (`mcpgateway.app.Service`).

        :raises ConfigError: a server cannot be made from its configuration; nothing has changed then
        :raises RuntimeError: the gateway is closed
        """
        if self._closed:
            raise RuntimeError("the gateway is closed")
        config = self._whole(config)
        differences = compare(self.config, config)
        given = {**self._adapters, **(adapters or {})}
        servers = enabled(config)
        made = {
            name: given.get(name) or adapter_for(servers[name], self._commons)
            for name in (*differences.added, *differences.changed)
        }
        shown = {name: Shown.by(self._namespaces[name]) for name in differences.renewed}
        self._was_ready = self.is_ready
        self._adapters, self.config = given, config
        self.bounds.change(config.listen.limits)
        self.sessions.idle_timeout = config.listen.limits.session_idle_timeout
        self.parking.terms = config.parking
        changed = self._reconfigure_servers(servers, differences, made)
        self._reconfigure_namespaces(differences)
        self._observe()
        self._forget_keys({*differences.changed, *differences.removed})
        self.changes.reconfigured(shown, changed)
        self._close_sessions(differences.gone)
        return differences

    def _reconfigure_servers(
        self, servers: Mapping[str, ServerConfig], differences: Differences, adapters: Mapping[str, Adapter]
    ) -> list[Server]:
        """Have just these servers; those that are reached in another way now."""
        drain = self.config.shutdown_timeout
        before, self.servers = self.servers, {}
        for name, config in servers.items():
            server = before.get(name)
            if server is None:
                server = self._make_server(config, adapters[name])
                if self._life is not None:
                    self._life.start_soon(server.run, name=f"server {name}")
            elif name in differences.changed:
                server.reconfigure(config, adapters[name], drain=drain)
            else:
                server.config = config
            self.servers[name] = server
        if self._life is not None:
            for name in differences.removed:
                self._retiring.add(before[name])
                self._life.start_soon(self._retire, before[name], drain, name=f"server {name} retires")
        return [self.servers[name] for name in differences.changed]

    async def _retire(self, server: Server, drain: float) -> None:
        try:
            await server.retire(drain)
        finally:
            self._retiring.discard(server)
            for former in self._former.values():
                former.discard(server)

    def _reconfigure_namespaces(self, differences: Differences) -> None:
        before, self._namespaces = self._namespaces, {}
        for name, plan in plans(self.config).items():
            if name not in differences.renewed and name not in differences.opened:
                self._namespaces[name] = before[name]
                continue
            namespace = self._namespaces[name] = self._make_namespace(plan)
            if isinstance(namespace, MergedNamespace) and isinstance(was := before.get(name), MergedNamespace):
                namespace.succeed(was)
        for name in (*differences.renewed, *differences.gone):
            before[name].retire()
            self._former.setdefault(name, set()).update(before[name].servers)

    def _forget_keys(self, servers: set[str]) -> None:
        """Servers may share their links among clients in another way now."""
        self.callers.clear()
        for session in self.sessions:
            for name in servers:
                session.caller.forget(name)
            namespace = self._namespaces.get(session.namespace)
            if namespace is not None and not namespace.passes_through:
                session.caller.handshake = None

    def _close_sessions(self, gone: Collection[str]) -> None:
        """End the sessions of namespaces that there are no more, each once its calls have had their time."""
        busy = False
        for session in self.sessions:
            if session.namespace in gone:
                for wait in session.streams:
                    wait.end(Reconfigured("there is no such namespace any more"))
                busy = busy or bool(session.calls)
                if not session.calls:
                    self.sessions.close(session)
        if busy and self._life is not None:
            self._life.start_soon(self._close_late, self.config.shutdown_timeout)

    async def _close_late(self, seconds: float) -> None:
        """Nobody finds these sessions any more, so when exactly they are closed is all the same."""
        await trio.sleep(seconds)
        for session in self.sessions:
            if session.namespace not in self._namespaces:
                self.sessions.close(session)

    # ---- what there is -----------------------------------------------------------------------------------------------

    def _whole(self, config: Config) -> Config:
        """A configuration with the servers that are objects, not configuration."""
        return attrs.evolve(config, servers={**config.servers, **self._embedded}) if self._embedded else config

    def _make_server(self, config: ServerConfig, adapter: Adapter | None = None) -> Server:
        children = sum(isinstance(each, StdioServer) for each in enabled(self.config).values())
        return Server(
            config,
            adapter or self._adapters.get(config.name) or adapter_for(config, self._commons),
            client_info=SERVER_INFO,
            random=random.random,
            lazy=isinstance(config, StdioServer) and children > self.config.lazy_above,
            heard=self.changes.heard,
            relinked=self.changes.relinked,
            arrived=self.changes.renewals.arrived,
        )

    def _make_namespace(self, plan: Plan) -> Namespace:
        servers = [self.servers[name] for name in plan.servers]
        if plan.raw:
            (server,) = servers
            view, wait = plan.views[server.name], plan.startup_wait
            return RawNamespace(plan.name, server, view, self.dispatcher, self.changes, startup_wait=wait)
        return MergedNamespace(
            plan,
            servers,
            self.dispatcher,
            self.changes,
            server_info=SERVER_INFO,
            sealer=self.sealer,
            sweeper=self.sweeper,
        )

    def namespace(self, name: str = "", *, upstream: str = "") -> Namespace | None:
        """The namespace that clients find at ``/mcp/{name}``; the empty name is ``/mcp`` itself.

        ``upstream`` is the upstream that looks for it, for the log.
        """
        found = self._namespaces.get(name)
        return found if found is None or self._observer is None else self._observer.watch(found, upstream)

    def _plain(self, name: str) -> Namespace | None:
        """A namespace for the gateway's own errands, which nobody watches."""
        return self._namespaces.get(name)

    def _observe(self) -> None:
        """Have calls watched, or not, as the configuration says now."""
        if self.config.metrics.enabled or self.config.logging.verbose:
            from mcpgateway.calls.observed import observer

            self._observer = observer(self.config, self.recorder, self._observer, self._namespaces)
        else:
            self._observer = None

    @property
    def namespaces(self) -> Mapping[str, Namespace]:
        return self._namespaces

    # ---- for Python --------------------------------------------------------------------------------------------------

    def client(self, namespace: str = "") -> Client:
        find = partial(self._find, namespace)
        find()
        return Client(find)

    def _find(self, name: str) -> Namespace:
        found = self.namespace(name)
        if found is None:
            raise UnknownNamespace(f"there is no namespace or server {name!r}")
        return found


async def _run(errand: Callable[[], Awaitable[None]]) -> None:
    """Run an errand; what goes wrong in it is nobody else's misfortune."""
    try:
        await errand()
    except Exception:
        log.exception("an errand of the gateway failed")
