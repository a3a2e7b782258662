"""The fixture server over stdio, as adapters meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from mcpgateway.errors import UNSUPPORTED_VERSION
from mcpgateway.testing.fixture_server import EXIT_STATUS, LAST_WORDS

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {"method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
DISCOVER = {"method": "server/discover", "params": {"_meta": ENVELOPE}}


def serve(*messages: object, options: tuple[str, ...] = ()) -> tuple[list[Any], subprocess.CompletedProcess[bytes]]:
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": number, **message}) if isinstance(message, dict) else str(message)
        for number, message in enumerate(messages)
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mcpgateway.testing.fixture_server", *options],
        input="".join(line + "\n" for line in lines).encode(),
        capture_output=True,
        timeout=300,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done


def tool(name: str, meta: object = None) -> dict[str, object]:
    return {"method": "tools/call", "params": {"name": name, "arguments": {}, **({"_meta": meta} if meta else {})}}


def test_one_process_speaks_both_eras() -> None:
    answers, done = serve(INITIALIZE, DISCOVER, tool("echo_ids"), tool("echo_ids", ENVELOPE), "", "junk")

    assert (done.returncode, done.stderr) == (0, b"")
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3, None]
    assert answers[0]["result"]["protocolVersion"] == "2025-11-25"
    assert answers[1]["result"]["supportedVersions"] == ["2026-07-28"]
    assert answers[2]["result"] == {"content": [], "structuredContent": {"values": [0, 1, 2]}}
    assert answers[3]["result"]["resultType"] == "complete"
    assert answers[4]["error"]["code"] == -32700


@pytest.mark.parametrize(
    ("era", "message", "code"),
    [("modern", INITIALIZE, UNSUPPORTED_VERSION), ("modern", tool("echo_ids"), -32602), ("legacy", DISCOVER, -32601)],
)
def test_the_other_era_is_refused(era: str, message: object, code: int) -> None:
    (answer,), _ = serve(message, options=("--era", era))

    assert answer["error"]["code"] == code


def test_a_crash_has_last_words() -> None:
    answers, done = serve(INITIALIZE, tool("slow"), tool("crash"), tool("echo_ids"))

    assert [answer["id"] for answer in answers] == [0]
    assert (done.returncode, done.stderr.decode().strip()) == (EXIT_STATUS, LAST_WORDS)


def test_a_silent_server_says_nothing() -> None:
    answers, done = serve(INITIALIZE, DISCOVER, tool("crash"), options=("--silent",))

    assert (answers, done.returncode) == ([], 0)
