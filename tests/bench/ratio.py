"""The paired measurement: nginx and the gateway in turns, in front of the same server, under the same load.

Server and load generator are pinned to one CPU, the proxy under test to another (a fair single-core figure; the child
of a stdio server inherits it). Every reply's id and content is checked by the load generator.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from tests.processes import free_port, running, wait_for_children, wait_for_ok, wait_for_port

HERE = Path(__file__).resolve().parent
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""Where to look for tools: nginx lives in a directory that a user's PATH often lacks."""

NGINX = """worker_processes 1; daemon off; pid {d}/pid; error_log {d}/error.log crit;
events {{ worker_connections 4096; multi_accept on; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_body_buffer_size 256k;
  client_body_temp_path {d}/b; proxy_temp_path {d}/p;
  fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
  proxy_buffers 8 128k; proxy_buffer_size 128k; proxy_busy_buffers_size 256k;
  upstream be {{ server 127.0.0.1:{server}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ proxy_pass http://be; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class WrongReplies(Exception):
    """The load generator got a wrong reply, or none: a measurement of errors would be worthless."""


@attrs.frozen
class Run:
    """One run of the load generator."""

    rps: float
    p50_us: float
    p99_us: float
    cpu_us: float
    """CPU microseconds of the measured process, per call."""


@attrs.frozen
class Figures:
    """Medians over the rounds of one scenario at one number of calls in flight."""

    rps: float
    p50_us: float
    p99_us: float
    cpu_us: float
    ratio: float | None = None
    """Calls/s in relation to nginx, the median of the pairs."""
    p50_ratio: float | None = None


def figures(runs: Sequence[Run], against: Sequence[Run] = ()) -> Figures:
    """Summarise the rounds, in pairs with those of nginx where there are any."""
    pairs = list(zip(runs, against, strict=False))
    return Figures(
        rps=statistics.median(run.rps for run in runs),
        p50_us=statistics.median(run.p50_us for run in runs),
        p99_us=statistics.median(run.p99_us for run in runs),
        cpu_us=statistics.median(run.cpu_us for run in runs),
        ratio=statistics.median(run.rps / other.rps for run, other in pairs) if pairs else None,
        p50_ratio=statistics.median(run.p50_us / other.p50_us for run, other in pairs) if pairs else None,
    )


def missing_tools() -> list[str]:
    """What the measurement needs and this machine lacks, each with where to get it."""
    wanted = {"gcc": "the package gcc", "taskset": "the package util-linux", "nginx": "the package nginx-light"}
    lacking = [f"{tool} ({where})" for tool, where in wanted.items() if shutil.which(tool, path=SYSTEM_PATH) is None]
    if len(_cpus()) < 2:
        lacking.append("a second CPU to pin to")
    return lacking


def _cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def build(folder: Path) -> None:
    """Compile the server and the load generator into ``folder``, if their sources are newer."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("mcpback", "loadgen"):
        source, target = HERE / f"{name}.c", folder / name
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["gcc", "-O2", "-w", "-o", str(target), str(source)], check=True)


@attrs.frozen
class Bench:
    """Where the compiled tools are, and how long to measure."""

    tools: Path
    scratch: Path
    python: str
    rounds: int = 3
    seconds: float = 2.0

    def pinned(self, cpu: int, *command: str) -> list[str]:
        return ["taskset", "-c", str(_cpus()[cpu]), *command]

    def load(self, url: str, in_flight: int, options: Sequence[str], pid: int) -> Run:
        """Run the load generator against a URL, charging the CPU time of ``pid``."""
        command = self.pinned(0, str(self.tools / "loadgen"), "-j", "-u", url, "-c", str(in_flight))
        command += ["-d", str(self.seconds), "-p", str(pid), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=self.seconds + 60)
        try:
            report = json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, ValueError):
            raise WrongReplies(f"no load on {url}: {(done.stdout + done.stderr)[-500:]}") from None
        if report["errors"] or not report["ok"]:
            raise WrongReplies(f"{report['errors']} wrong replies on {url}: {done.stderr[-500:]}")
        return Run(report["rps"], report["p50_us"], report["p99_us"], report["cpu_us_per_req"])

    @contextmanager
    def server(self, options: Sequence[str]) -> Iterator[int]:
        """The HTTP server behind; its port."""
        port, log = free_port(), self.scratch / "server.log"
        with running(self.pinned(0, str(self.tools / "mcpback"), "http", str(port), *options), log) as process:
            wait_for_port(port, process, log)
            yield port

    @contextmanager
    def nginx(self, server: int) -> Iterator[tuple[int, int]]:
        """nginx before the server; its port and the pid of its worker."""
        port, log, config = free_port(), self.scratch / "nginx.log", self.scratch / "nginx.conf"
        config.write_text(NGINX.format(d=self.scratch, server=server, port=port))
        nginx = shutil.which("nginx", path=SYSTEM_PATH) or "nginx"
        with running(self.pinned(1, nginx, "-c", str(config), "-p", str(self.scratch)), log) as process:
            wait_for_port(port, process, log)
            (worker,) = wait_for_children(process, log)
            yield port, worker

    @contextmanager
    def gateway(self, server: dict[str, object]) -> Iterator[Gateway]:
        """The installed gateway with one server named ``bench``, on its defaults, ready for calls."""
        port, log, config = free_port(), self.scratch / "gateway.log", self.scratch / "gateway.json"
        config.write_text(json.dumps({"state_dir": str(self.scratch / "state"), "servers": {"bench": server}}))
        command = [self.python, "-m", "runners.gateway", "--config", str(config), "--port", str(port)]
        with running(self.pinned(1, *command), log, cwd=self.scratch) as process:
            listening = wait_for_port(port, process, log)
            wait_for_ok(f"http://127.0.0.1:{port}/readyz", process, log)
            yield Gateway(port, process.pid, listening, resident_mb(process.pid))


@attrs.frozen
class Gateway:
    """A gateway that runs: where, how long it took to listen (s), and its resident memory (MB) when ready."""

    port: int
    pid: int
    listening: float
    resident: float


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return math.nan


def import_ms(python: str, cwd: Path, rounds: int = 5) -> float:
    """Milliseconds that touching `mcpgateway.open_gateway` takes, the least of some rounds."""
    code = (
        "from time import perf_counter as now; t = now(); import mcpgateway; mcpgateway.open_gateway; print(now() - t)"
    )
    times = [
        subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=cwd, check=True).stdout
        for _ in range(rounds)
    ]
    return min(float(text) for text in times) * 1000


@attrs.frozen
class Measured:
    """All rounds of one scenario."""

    listening: float
    resident: float
    gateway: dict[int, Figures]
    nginx: dict[int, Figures]


def measure(
    bench: Bench,
    *,
    kind: str,
    server: Sequence[str],
    path: str,
    load: Sequence[str],
    in_flight: Sequence[int],
    era: str = "auto",
) -> Measured:
    """Measure one scenario, nginx and gateway in turns."""
    ours: dict[int, list[Run]] = {count: [] for count in in_flight}
    theirs: dict[int, list[Run]] = {count: [] for count in in_flight}
    with ExitStack() as stack:
        nginx: tuple[int, int] | None = None
        if kind == "http":
            server_port = stack.enter_context(bench.server(server))
            nginx = stack.enter_context(bench.nginx(server_port))
            entry: dict[str, object] = {"url": f"http://127.0.0.1:{server_port}{path}"}
        else:
            entry = {"command": str(bench.tools / "mcpback"), "args": ["stdio", *server]}
        gateway = stack.enter_context(bench.gateway({**entry, "era": era}))
        for _ in range(bench.rounds):
            for count in in_flight:
                if nginx is not None:
                    theirs[count].append(bench.load(f"http://127.0.0.1:{nginx[0]}{path}", count, load, nginx[1]))
                ours[count].append(bench.load(f"http://127.0.0.1:{gateway.port}/mcp/bench", count, load, gateway.pid))
    return Measured(
        listening=gateway.listening,
        resident=gateway.resident,
        gateway={count: figures(ours[count], theirs[count]) for count in in_flight},
        nginx={count: figures(theirs[count]) for count in in_flight if theirs[count]},
    )
