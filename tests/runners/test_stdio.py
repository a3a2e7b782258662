"""The stdio runner: what it decides to serve, and as a process: what is on standard output, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcpgateway.config.loading import from_value
from mcpgateway.config.model import Config, HttpServer, Isolation
from mcpgateway.errors import ConfigError
from runners import stdio
from runners.processes import Process
from runners.statefile import State, StateFile, this_process
from tests.fronts.site import LEGACY, call, modern, notification, request
from tests.processes import POLL, let_run
from tests.real.gateways import ENDING, environment, gateway
from tests.runners.held import Held, none_left
from tests.runners.states import noted

INITIALIZE = request(
    0, "initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
)
TWO = {"servers": {"a": {"command": "x"}, "b": {"command": "y"}}}


# ---- what it decides -------------------------------------------------------------------------------------------------


def config(**more: object) -> Config:
    return from_value({**TWO, **more}).config


@pytest.mark.parametrize(
    ("given", "wanted", "namespace"),
    [
        (config(), None, ""),
        (config(), "b", "b"),
        (config(namespaces={"work": {"servers": ["a"]}}), None, "work"),
        (config(namespaces={"work": {"servers": ["a"]}}, expose_servers=True), None, ""),
    ],
)
def test_what_is_served(given: Config, wanted: str | None, namespace: str) -> None:
    assert stdio.chosen(given, wanted) == namespace


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ("c", "there is no namespace or server 'c'; there are: one, two"),
        ("a", "there is no namespace or server 'a'; there are: one, two"),
        (None, "which namespace? --namespace has to name one; there are: one, two"),
    ],
)
def test_what_cannot_be_served(wanted: str | None, problem: str) -> None:
    given = config(namespaces={"one": {"servers": ["a"]}, "two": {"servers": ["b"]}})
    with pytest.raises(ConfigError) as caught:
        stdio.chosen(given, wanted)
    assert caught.value.problems == [problem]


def test_servers_on_this_machine_are_those_of_the_one_client_unless_they_say_otherwise() -> None:
    servers = {
        "own": {"command": "x"},
        "said": {"command": "y", "isolation": "shared"},
        "remote": {"url": "https://example.com/mcp"},
    }
    made = stdio.for_one(config(servers=servers))
    isolation = {name: server.isolation for name, server in made.servers.items()}
    assert isolation == {"own": Isolation.SESSION, "said": Isolation.SHARED, "remote": Isolation.AUTO}


@pytest.mark.requirement("feature.23")
def test_a_bridge_is_a_gateway_of_one_server() -> None:
    headers = ["Authorization: Bearer ${TOKEN}", "X-Odd:a: b"]
    made = stdio.remote("https://example.com/mcp", headers, {"TOKEN": "secret"}).config
    server = made.servers["remote"]
    assert isinstance(server, HttpServer)
    assert server.url == "https://example.com/mcp"
    assert {name: value.reveal() for name, value in server.headers.items()} == {
        "Authorization": "Bearer secret",
        "X-Odd": "a: b",
    }
    assert server.timeout == server.max_timeout == 24 * 3600
    assert stdio.chosen(made, "remote") == "remote"
    assert "secret" not in repr(made)


@pytest.mark.parametrize(
    ("url", "header", "problem"),
    [
        ("ftp://x", "A: b", "must begin with http:// or https://"),
        ("https://x", "A", "'A' has no value"),
        ("https://x", "A: ${NONE}", "NONE"),
        ("https://x", "a b: c", "is no legal name"),
    ],
)
def test_a_bridge_to_nowhere(url: str, header: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("(", r"\(")):
        stdio.remote(url, [header], {})


def test_the_running_gateway_is_found_by_its_state_file(tmp_path: Path) -> None:
    def write(process: Process, url: str) -> None:
        state = State(process.pid, process.born, url, "", "0", "now", None)
        StateFile(tmp_path, process=process).write(state)

    with pytest.raises(ConfigError, match="no gateway is running"):
        stdio.running(tmp_path)
    write(this_process(), "http://127.0.0.1:4321")
    assert stdio.running(tmp_path) == "http://127.0.0.1:4321/mcp"
    write(Process(2**22 + 1, "b"), "http://127.0.0.1:1")
    assert stdio.running(tmp_path) == "http://127.0.0.1:4321/mcp"
    write(this_process(), "")
    with pytest.raises(ConfigError, match=f"that of process {os.getpid()} does not listen"):
        stdio.running(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--url", "http://x", "--namespace", "y"], "--namespace does not go with --url"),
        (["--header", "A: b"], "--header goes with --url only"),
        (["--url", "nonsense"], "must begin with http"),
        (["--url", "http://127.0.0.1:1/mcp", "--header", "A"], "has no value"),
    ],
)
def test_flags_that_do_not_fit(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        stdio.main(arguments)
    said = capsys.readouterr()
    assert caught.value.code == 2
    assert problem in said.err
    assert said.out == ""


def test_the_console_script_takes_its_url_first(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(stdio, "main", given.append)
    stdio.bridge(["http://x/mcp", "--log-level", "debug"])
    stdio.bridge([])
    stdio.bridge(["--header", "A: b"])
    assert given == [["--url=http://x/mcp", "--log-level", "debug"], ["--url="], ["--url=", "--header", "A: b"]]


# ---- as a process ----------------------------------------------------------------------------------------------------


class Talk:
    """A conversation with a process, message by message."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said: list[bytes] = []
        """All that was on standard output."""

    def send(self, *messages: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        self.process.stdin.flush()

    def receive(self) -> Any:
        assert self.process.stdout is not None
        self.said.append(self.process.stdout.readline())
        return json.loads(self.said[-1])

    def ask(self, message: dict[str, Any]) -> Any:
        self.send(message)
        while (answer := self.receive()).get("id") != message["id"]:
            pass
        return answer

    def end(self) -> tuple[list[Any], int]:
        """Say no more; what still came, and the exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.rest()

    def rest(self) -> tuple[list[Any], int]:
        assert self.process.stdout is not None
        rest = [json.loads(line) for line in self.process.stdout.read().splitlines()]
        return rest, self.process.wait(ENDING)


@contextmanager
def talk(*arguments: str, env: Mapping[str, str] | None = None, stderr: int | None = None) -> Iterator[Talk]:
    process = subprocess.Popen(
        [sys.executable, "-m", "runners.stdio", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**environment(), **(env or {})},
        start_new_session=True,
    )
    try:
        yield Talk(process)
    finally:
        process.kill()
        process.wait(ENDING)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def written(folder: Path, config: Mapping[str, object]) -> str:
    file = folder / "mcp-gateway.json"
    file.write_text(json.dumps({"state_dir": str(folder / "state"), **config}))
    return str(file)


real = pytest.mark.real


@real
@pytest.mark.requirement("5.fronts", "feature.22")
def test_a_conversation_in_one_breath_is_answered_to_its_end() -> None:
    with talk("--demo") as it:
        it.send(INITIALIZE, notification("notifications/initialized"), request(1, "tools/list"))
        it.send(call(2, "clock_now", {"timezone": "UTC"}), modern(call(3, "clock_now", {"timezone": "UTC"}))[0])
        answers, status = it.end()

    assert sorted(answer["id"] for answer in answers) == [0, 1, 2, 3]
    assert all("result" in answer for answer in answers)
    assert status == 0


@real
@pytest.mark.requirement("feature.22")
def test_nothing_but_mcp_is_on_standard_output_whatever_prints(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(
        "import os, sys\n"
        "print('imported')\n"
        "os.write(1, b'raw\\n')\n"
        "os.system('echo from a shell')\n"
        "assert os.read(0, 1) == b''\n"
        "from mcp.server import MCPServer\n"
        "server = MCPServer('noisy')\n"
        "@server.tool()\n"
        "def shout(text: str) -> str:\n"
        "    print('called')\n"
        "    return text.upper()\n"
    )
    config = written(tmp_path, {"servers": {"noisy": {"type": "in-process", "module": "noisy:server"}}})
    path = os.pathsep.join([environment()["PYTHONPATH"], str(tmp_path)])
    with talk("--config", config, "--namespace", "noisy", env={"PYTHONPATH": path}, stderr=subprocess.PIPE) as it:
        it.ask(INITIALIZE)
        it.send(notification("notifications/initialized"))
        answer = it.ask(call(1, "shout", {"text": "hi"}))
        rest, status = it.end()
        assert it.process.stderr is not None
        errors = it.process.stderr.read()

    assert answer["result"]["content"][0]["text"] == "HI"
    assert (rest, status) == ([], 0)
    for said in (b"imported\n", b"raw\n", b"from a shell\n", b"called\n"):
        assert said in errors


@real
@pytest.mark.requirement("feature.22")
def test_a_server_asks_its_one_client_also_when_no_call_is_on(tmp_path: Path) -> None:
    (tmp_path / "asking.py").write_text(
        "import json, sys\n"
        "def say(**message): print(json.dumps({'jsonrpc': '2.0', **message}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    message = json.loads(line)\n"
        "    if message.get('method') == 'initialize':\n"
        "        say(id=message['id'], result={'protocolVersion': '2025-06-18', 'capabilities': {'tools': {}},\n"
        "            'serverInfo': {'name': 'asking', 'version': '1'}})\n"
        "    elif message.get('method') == 'tools/list':\n"
        "        say(id=message['id'], result={'tools': [{'name': 'ask', 'inputSchema': {'type': 'object'}}]})\n"
        "    elif message.get('method') == 'tools/call':\n"
        "        say(id=message['id'], result={'content': []})\n"
        "        say(id='beside', method='roots/list')\n"
        "    elif message.get('id') == 'beside':\n"
        "        text = json.dumps(message.get('result', message.get('error')))\n"
        "        say(method='notifications/message', params={'level': 'error', 'data': text})\n"
        "    elif 'id' in message:\n"
        "        say(id=message['id'], error={'code': -32601, 'message': 'unknown'})\n"
    )
    config = written(
        tmp_path, {"servers": {"asking": {"command": sys.executable, "args": [str(tmp_path / "asking.py")]}}}
    )
    roots = {"roots": [{"uri": "file:///home"}]}
    with talk("--config", config) as it:
        params = {"protocolVersion": LEGACY, "capabilities": {"roots": {}}, "clientInfo": {"name": "t", "version": "1"}}
        it.ask(request(0, "initialize", params))
        it.send(notification("notifications/initialized"))
        it.send(call(1, "asking_ask"))
        question = next(message for message in (it.receive() for _ in range(2)) if "method" in message)
        assert question["method"] == "roots/list"
        it.send({"jsonrpc": "2.0", "id": question["id"], "result": roots})
        while (told := it.receive()).get("method") != "notifications/message":
            pass
        assert json.loads(told["params"]["data"]) == roots
        assert it.end() == ([], 0)


@real
@pytest.mark.parametrize("how", ["end", "SIGTERM", "SIGINT"])
def test_the_end_leaves_no_process_and_answers_what_it_can(tmp_path: Path, held: Held, how: str) -> None:
    config = written(tmp_path, {"servers": {"slow": held.server(stubborn=True)}, "shutdown_timeout": "300ms"})
    with talk("--config", config, "--namespace", "slow", env={"MARK": f"stdio-{tmp_path}"}) as it:
        it.ask(INITIALIZE)
        it.send(call(1, "slow", {"name": "s"}))
        it.ask(call(2, "waiting", {"count": 1}))
        if how == "end":
            (answer,), status = it.end()
        else:
            it.process.send_signal(signal.Signals[how])
            (answer,), status = it.rest()

    assert "shutting down" in answer["error"]["message"]
    assert status == 0
    assert held.gone()
    assert none_left(f"MARK=stdio-{tmp_path}")


@real
def test_a_second_signal_ends_it_at_once(tmp_path: Path, held: Held) -> None:
    config = written(tmp_path, {"servers": {"slow": held.server(stubborn=True)}, "shutdown_timeout": "60s"})
    with talk("--config", config, "--namespace", "slow", stderr=subprocess.PIPE) as it:
        it.ask(INITIALIZE)
        it.send(call(1, "slow", {"name": "s"}))
        it.ask(call(2, "waiting", {"count": 1}))
        it.process.send_signal(signal.SIGTERM)
        assert it.process.stderr is not None
        while b"finishing calls" not in it.process.stderr.readline():
            pass
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(ENDING) == -signal.SIGTERM
    assert held.gone()


@real
@pytest.mark.requirement("5.fronts", "feature.23")
@pytest.mark.parametrize("path", ["/mcp", "/sse"])
def test_a_bridge_carries_both_eras_to_a_running_gateway(path: str) -> None:
    with gateway("--demo") as running:
        for arguments, env in (
            ([f"--url={running.url}{path}"], {}),
            (["--url"], {"MCP_GATEWAY_URL": running.url + path}),
        ):
            with talk(*arguments, env=env) as it:
                discovered = it.ask(modern(request("d", "server/discover"))[0])
                result = it.ask(INITIALIZE)["result"]
                names = [tool["name"] for tool in it.ask(request(1, "tools/list"))["result"]["tools"]]
                answer = it.ask(modern(call(2, "clock_now", {"timezone": "UTC"}))[0])
                rest, status = it.end()

            assert discovered["result"]["resultType"] == "complete"
            assert result["serverInfo"]["name"] == "mcpgateway"
            assert "clock_now" in names
            assert answer["result"]["resultType"] == "complete"
            assert (rest, status) == ([], 0)


@real
@pytest.mark.requirement("feature.23")
def test_a_bridge_outlives_the_gateway_behind_it(tmp_path: Path) -> None:
    config = written(tmp_path, {"servers": {}})
    with gateway("--demo", "--config", config) as first:
        port = first.url.rpartition(":")[2]
        noted(tmp_path / "state", first.process.pid)
        with talk("--config", config, "--url") as it:  # by the state file
            it.ask(INITIALIZE)
            assert "result" in it.ask(call(1, "clock_now", {"timezone": "UTC"}))
            first.process.send_signal(signal.SIGTERM)
            assert first.ended() == 0
            refused = it.ask(call(2, "clock_now", {"timezone": "UTC"}))
            assert "remote" in refused["error"]["message"]
            with gateway("--demo", "--port", port):
                deadline = time.monotonic() + ENDING
                while "result" not in it.ask(call(3, "clock_now", {"timezone": "UTC"})):
                    assert time.monotonic() < deadline, "the bridge did not come back"
                    let_run(POLL)
            assert it.end()[1] == 0


@real
def test_a_client_that_has_gone_ends_it() -> None:
    with talk("--demo", stderr=subprocess.PIPE) as it:
        it.ask(INITIALIZE)
        assert it.process.stdout is not None
        it.process.stdout.close()
        it.send(request(1, "ping"))
        assert it.process.wait(ENDING) == 0
