"""Servers from the registries and of the SDK, all behind one gateway, started once for all tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.processes import free_port, running, wait_for_port
from tests.real import registries
from tests.real.gateways import GatewayProcess, configured, environment


@attrs.frozen
class Servers:
    """What stands behind the gateway: the ``servers`` of its configuration."""

    config: dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Every kind of server: two from the registries, one of them over both transports and once more for clients of its
    own era only, and an SDK server over HTTP and in process. Those over HTTP are running."""
    folder = tmp_path_factory.mktemp("servers")
    (time_command,) = registries.time_server()
    everything = registries.everything_server()
    everything_port, sdk_port = free_port(), free_port()
    with (
        running([*everything, "streamableHttp"], folder / "e.log", env={"PORT": str(everything_port)}) as first,
        running(
            [sys.executable, "-m", "tests.real.sdk_app", str(sdk_port)], folder / "s.log", env=environment()
        ) as other,
    ):
        wait_for_port(everything_port, first, folder / "e.log")
        wait_for_port(sdk_port, other, folder / "s.log")
        yield Servers(
            {
                "time": {"command": time_command},
                "everything": {"command": everything[0], "args": [*everything[1:], "stdio"]},
                "strict": {"command": everything[0], "args": [*everything[1:], "stdio"], "era": "mirror"},
                "remote": {"url": f"http://127.0.0.1:{everything_port}/mcp"},
                "sdk": {"url": f"http://127.0.0.1:{sdk_port}/mcp"},
                "mine": {"module": "tests.real.sdk_app:server"},
            }
        )


@pytest.fixture(scope="session")
def through(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway in front of all of them."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    with configured(folder, {"servers": servers.config, "startup_wait": "60s", "list_timeout": "60s"}) as gateway:
        yield gateway
