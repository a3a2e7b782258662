"""A stdio server that does what it should not, when a tool asks for it. Starts in 20 ms: the standard library only.

``python -IS rogue.py [--stubborn]``: a stubborn one ignores the end of its input and SIGTERM, and so do a child and a
grandchild of it, in its own process group.

=================== ===================================================================================================
echo                the text ``ok``
pid                 its process id as text
last_words          says that it is well, on standard error
calm                is stubborn no longer: the end of its input ends it
hang                never answers
hold                a child of its takes over its pipes; answers with the child's process id
daemon              the same, and the child leaves the process group
big {bytes}         a reply of so many bytes
junk {bytes, text}  a line of so many bytes, made of the text, on its standard output, then a reply
flood               {fd, text, rate}: from now on writes the text over and over, so many bytes a second
=================== ===================================================================================================
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

CHUNK = 64 * 1024
stubborn = threading.Event()


def write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def say(**members: object) -> None:
    write(1, json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n")


def reply(id: object, text: object) -> None:
    say(id=id, result={"content": [{"type": "text", "text": str(text)}]})


def flood(fd: int, text: str, rate: float) -> None:
    """So many bytes a second, or as fast as somebody reads."""
    data = (text.encode() * CHUNK)[:CHUNK]
    began, written = time.monotonic(), 0
    while True:
        write(fd, data)
        written += len(data)
        time.sleep(max(began + written / rate - time.monotonic(), 0))


def holder(*, leaves: bool) -> int:
    """Fork a child that holds the pipes; returns when it is where it should be."""
    there, told = os.pipe()
    child = os.fork()
    if child:
        os.read(there, 1)
        return child
    if leaves:
        os.setsid()
    os.write(told, b"x")
    while True:
        signal.pause()


def call(id: object, tool: str, arguments: dict[str, Any]) -> None:
    match tool:
        case "calm":
            stubborn.clear()
            reply(id, "ok")
        case "echo":
            reply(id, "ok")
        case "pid":
            reply(id, os.getpid())
        case "last_words":
            write(2, b"I am well\n")
            reply(id, "ok")
        case "hold" | "daemon":
            reply(id, holder(leaves=tool == "daemon"))
        case "big":
            reply(id, "x" * arguments["bytes"])
        case "junk":
            write(1, (arguments["text"].encode() * arguments["bytes"])[: arguments["bytes"]] + b"\n")
            reply(id, "ok")
        case "flood":
            reply(id, "ok")
            threading.Thread(
                target=flood, args=(arguments["fd"], arguments["text"], arguments["rate"]), daemon=True
            ).start()


def main() -> None:
    if "--stubborn" in sys.argv:
        stubborn.set()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        there, told = os.pipe()
        if os.fork() == 0:
            os.fork()
            os.write(told, b"x")
            while True:
                signal.pause()
        for _ in ("child", "grandchild"):
            os.read(there, 1)
    serve()
    while stubborn.is_set():
        signal.pause()


def serve() -> None:
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "pid", "hang", "big", "junk")]
    for line in sys.stdin:
        message = json.loads(line)
        id = message.get("id")
        match message["method"]:
            case "initialize":
                info = {"name": "rogue", "version": "1"}
                say(id=id, result={"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info})
            case "tools/list":
                say(id=id, result={"tools": tools})
            case "tools/call":
                call(id, message["params"]["name"], message["params"].get("arguments", {}))
            case _ if id is not None:
                say(id=id, error={"code": -32601, "message": "no such method"})


if __name__ == "__main__":
    main()
