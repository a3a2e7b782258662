"""The bridge as users of source system 000 run it: their file, clouds of another library, real servers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.processes import children_of, descriptors, free_port, resident_mb, running, wait_for_port
from tests.real.bridges import bridge, clouds
from tests.real.cloud_server import BAD
from tests.real.gateways import ENDING, ROOT, environment
from tests.real.pace import cores, cpu_slowness, slowness

pytestmark = [pytest.mark.real, pytest.mark.slow]

README = ROOT / "tests" / "config" / "golden" / "bridge_readme.json"
"""The example of source system 000, to the byte."""
LEDGER = {"type": "stdio", "command": sys.executable, "args": ["-m", "tests.real.ledger_server"]}
CLOCK = {"type": "stdio", "command": sys.executable, "args": ["-m", "mcpgateway.demo.clock"]}


@contextmanager
def served(folder: Path, module: str, *arguments: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    port, log = free_port(), folder / f"{module}{len(arguments)}.log"
    with running([sys.executable, "-m", module, str(port), *arguments], log, env=environment()) as started:
        wait_for_port(port, started, log)
        yield port


@pytest.mark.requirement("6.shows.readme", "6.upstreams", "feature.1", "feature.2")
def test_the_example_of_000_runs_unchanged_but_for_where_its_ends_are(tmp_path: Path) -> None:
    """Its endpoints and servers are on this machine; to them come one over stdio and one over SSE."""
    with (
        clouds() as far,
        served(tmp_path, "tests.real.http_server") as http,
        served(tmp_path, "tests.real.sdk_app", "--sse") as sse,
        served(tmp_path, "tests.real.sdk_app") as sdk,
    ):
        config = json.loads(README.read_text())
        first, second = config["upstreams"]
        servers = first["mcpServers"]
        servers["tencentdocs"]["url"] = f"http://127.0.0.1:{http}/mcp"
        servers["web-search"] = {"type": "sse", "url": f"http://127.0.0.1:{sse}/sse"}
        servers["calculator"] = CLOCK
        second["endpoint"] = f"ws://127.0.0.1:{far.port}/ask/2/?token=ANOTHER_TOKEN"
        second["mcpServers"]["xxx-mcp"]["url"] = f"http://127.0.0.1:{sdk}/mcp"
        env = {"MCP_ENDPOINT": f"ws://127.0.0.1:{far.port}/ask/1/?token=FIRST_TOKEN"}
        with bridge(tmp_path, config, env=env) as near:
            told = {path: far.told(f'"path": "{path}", "initialize"') for path in ("/ask/1/", "/ask/2/")}
            near.process.send_signal(signal.SIGTERM)
            assert near.ended() == 0
            codes = [far.told(f'"path": "{path}", "closed"')["closed"] for path in told]
            log = str(near.log)
    one, two = told.values()
    for each in one, two:
        assert each["initialize"]["protocolVersion"] == "2024-11-05"
        assert "tools" in each["initialize"]["capabilities"]
        assert each["ping"] == {}
        assert "error" in each["unknown"] or each["unknown"]["result"]["isError"]
    assert {"now", "echo", "add"} <= set(one["tools"])
    assert one["calls"]["echo"]["content"][0]["text"] == "hé"
    assert "timezone" in one["calls"]["now"]["structuredContent"]
    assert one["calls"]["add"]["content"] == two["calls"]["add"]["content"]
    assert one["calls"]["add"]["content"][0]["text"] == "3"
    assert two["tools"] == ["add"]
    assert codes == [1001, 1001]
    assert "TOKEN" not in log


TOLD = {
    "binary": "upstream 'binary': a binary message was passed over",
    "junk": "upstream 'junk': sent something that is no message: the message is not valid JSON",
    "foreign": "upstream 'foreign': sent something that is no message: \"jsonrpc\"",
    "unasked": "upstream 'unasked': dropped the answer to a question that nobody asked",
    "early": "upstream 'early': refused a 'tools/list': initialise first",
    "long": "upstream 'long': broke the rules (close code 1009: 'a message may have 1000 bytes')",
    "half": "upstream 'half': closed its connection without saying so",
    "refusing": "upstream 'refusing': answered the WebSocket handshake with HTTP 401: the token in its endpoint",
    "plain": "upstream 'plain': cannot connect: TLS failed (is it ws://, without TLS?): ",
    "silent": "upstream 'silent': cannot connect: Connection refused",
    "pasted": "upstream 'pasted'",
    "twin": "there is another upstream 'twin': this one is called 'twin-2' here",
}
"""What the log says of each upstream that is of no use."""


@pytest.mark.requirement("6.bad", "6.upstreams")
def test_what_is_wrong_with_an_upstream_is_told_by_its_name_and_the_others_run_on(tmp_path: Path) -> None:
    """One good cloud among all that can be bad, and a server that never starts beside one that does."""
    with clouds() as far:
        at = f"127.0.0.1:{far.port}"
        endpoints = {
            **{name: f"ws://{at}/bad/{name}/?token=SECRET" for name in ("half", *BAD)},
            "refusing": f"ws://{at}/refuse/?token=SECRET",
            "plain": f"wss://{at}/?token=SECRET",
            "silent": f"ws://127.0.0.1:{free_port()}/SECRET/",
            "pasted": "SECRET",
            "twin": f"ws://{at}/ask/2/SECRET",
        }
        servers = {
            "calculator": CLOCK,
            "never": {"type": "stdio", "command": "no-such-command", "env": {"KEY": "SECRET"}},
        }
        upstreams = [
            {"name": name, "endpoint": endpoint, "mcpServers": servers, "message_bytes": 1000}
            for name, endpoint in (("twin", f"ws://{at}/ask/1/?token=SECRET"), *endpoints.items())
        ]
        with bridge(tmp_path, {"upstreams": upstreams}) as near:
            good = far.told('"path": "/ask/1/", "initialize"')
            for words in TOLD.values():
                near.log.wait_for(words, ENDING)
            near.process.send_signal(signal.SIGTERM)
            assert near.ended() == 0
            closed = far.told('"path": "/ask/1/", "closed"')["closed"]
    assert "timezone" in good["calls"]["now"]["structuredContent"]
    assert closed == 1001, "it was dropped by nobody before"
    assert set(endpoints) == set(TOLD)
    assert "Traceback" not in str(near.log)
    assert "SECRET" not in str(near.log)


LONG = 300.0
"""Seconds that many drops are given, which take 20."""
NOTICED = 0.1
"""Seconds that a call of the other cloud takes at most, of 19 in 20."""
STALLED = 5.0
"""What no call may take, whatever else the machine does."""


@pytest.mark.requirement("6.shows.drops", "6.drop", "6.upstreams")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="memory and children are looked for in /proc")
@pytest.mark.parametrize("kind", ["stdio", "http"])
def test_200_rude_drops_under_load_cost_nothing_but_the_calls_in_flight(kind: str, tmp_path: Path) -> None:
    def upstream(name: str, port: int, **keys: object) -> dict[str, Any]:
        server = LEDGER if kind == "stdio" else {"type": "http", "url": f"http://127.0.0.1:{http}/mcp"}
        servers = {"mcpServers": {f"server-{name}": server}}
        return {"name": name, "endpoint": f"ws://127.0.0.1:{port}/{name}/?token=SECRET", **servers, **keys}

    soon = {"reconnect": {"enabled": True, "initialBackoff": "5ms", "maxBackoff": "10ms"}}
    with served(tmp_path, "tests.real.ledger_server") as http, clouds() as far:
        config = {"upstreams": [upstream("rude", far.port, **soon), upstream("steady", far.port)]}
        with bridge(tmp_path, config) as near:
            pid = near.process.pid
            far.told('"dropped": 50', LONG)
            children = sorted(children_of(pid, "ledger_server"))
            memory, open_files = resident_mb(pid), descriptors(pid)
            far.told('"dropped": 200', LONG)
            after = resident_mb(pid), descriptors(pid)
            rude, steady = far.told('"drops"'), far.told('"longest"')
            connections = [line for line in far.log.lines if "steady connection" in line]
            assert sorted(children_of(pid, "ledger_server")) == children
            assert "Traceback" not in str(near.log)
            assert "SECRET" not in str(near.log)
    fates = Counter(rude["ends"].get(token, "never came") for token in rude["lost"])
    print(f"{rude['answered']} answered, lost: {dict(fates)}; {steady}; {memory:.1f} -> {after[0]:.1f} MB")
    assert (rude["drops"], rude["wrong"]) == (200, 0)
    assert sorted(rude["cancelled"]) == sorted(f"slow-{n}" for n in range(200))
    # Of every token: it came once at most; it was answered on the socket, or at the server and lost with the socket, or
    # cancelled at the server, or never came there.
    assert (rude["twice"], rude["unended"]) == ([], [])
    assert rude["sent"] == rude["answered"] + fates.total()
    assert rude["come"] == rude["answered"] + fates["answered"] + fates["cancelled"]
    assert {token for token, end in rude["ends"].items() if end == "cancelled"} == set(rude["cancelled"])
    assert rude["answered"] > 200 * 16, "the drops were under load"
    assert (steady["wrong"], len(connections)) == (0, 1)
    assert steady["p95"] < NOTICED * slowness(), "most of the drops would be noticed"
    assert steady["longest"] < STALLED
    assert after[0] - memory < 4
    assert after[1] - open_files < 40  # there are connections to the HTTP server for the calls of the moment, 17 or so


AT_LEAST = 8000
"""Calls a second on the reference machine, two cores of which the bridge has one."""
AT_MOST = 110
"""Microseconds of CPU a call."""


@pytest.mark.requirement("6.shows.speed")
@pytest.mark.skipif(shutil.which("gcc") is None or shutil.which("taskset") is None, reason="needs gcc and taskset")
@pytest.mark.skipif(len(cores()) < 2, reason="needs two cores")
def test_16_calls_in_flight_on_one_socket(tmp_path: Path) -> None:
    """Once in five rounds, for others use the machine too; a slower one has its own pace."""
    rounds = []
    for _ in range(5):
        pace = cpu_slowness()
        rate, spent = measured(tmp_path)
        rounds.append((rate * pace, spent / pace))
        if rounds[-1][0] >= AT_LEAST and rounds[-1][1] <= AT_MOST:
            break
    print(", ".join(f"{rate:.0f} calls/s with {spent:.1f} µs CPU a call" for rate, spent in rounds))
    assert rounds[-1][0] >= AT_LEAST
    assert rounds[-1][1] <= AT_MOST


def measured(folder: Path) -> tuple[float, float]:
    """Calls a second, without the time in which others have the two cores, and microseconds of CPU a call."""
    server, source = folder / "mcpback", ROOT / "tests" / "bench" / "mcpback.c"
    subprocess.run(["gcc", "-O2", "-w", "-o", str(server), str(source)], check=True)
    first, second = cores()[:2]
    port = free_port()
    cloud = subprocess.Popen(
        ["taskset", "-c", str(first), sys.executable, "-m", "tests.bench.cloud", "3"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        with running(["taskset", "-c", str(first), str(server), "http", str(port)], folder / "server.log") as backend:
            wait_for_port(port, backend, folder / "server.log")
            assert cloud.stdout is not None
            endpoint = f"ws://127.0.0.1:{int(cloud.stdout.readline())}/?token=t"
            servers = {"bench": {"type": "http", "url": f"http://127.0.0.1:{port}/mcp"}}
            config = {"upstreams": [{"name": "cloud", "endpoint": endpoint, "mcpServers": servers}]}
            with bridge(folder, config) as near:
                os.sched_setaffinity(near.process.pid, {second})
                assert cloud.stdout.readline() == "warm\n"
                pids = near.process.pid, cloud.pid, backend.pid
                before = [Ran.of(pid) for pid in pids]
                told = json.loads(cloud.stdout.readline())
                ours, load, behind = (Ran.of(pid) - then for pid, then in zip(pids, before, strict=True))
    finally:
        cloud.kill()
        cloud.communicate(timeout=ENDING)
    assert told["wrong"] == 0
    # Cloud and server share a core, so that each waits for the other; for longer, it is for somebody else.
    lost = ours.waiting + max(load.waiting - behind.running, behind.waiting - load.running, 0.0)
    return told["calls"] / max(told["seconds"] - lost, 0.1), ours.running / told["calls"] * 1e6


@attrs.frozen
class Ran:
    """Seconds that a process has had a core, and has waited for one although it had something to do."""

    running: float
    waiting: float

    @classmethod
    def of(cls, pid: int) -> Ran:
        """That of its first thread, which does all the work."""
        running, waiting, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return cls(int(running) / 1e9, int(waiting) / 1e9)

    def __sub__(self, other: Ran) -> Ran:
        return Ran(self.running - other.running, self.waiting - other.waiting)
