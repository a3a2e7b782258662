"""A cloud that keeps so many calls in flight on the one WebSocket that a bridge has dialled: ``python -m … SECONDS``.

Prints its port, waits to be dialled, shakes hands, and then calls ``echo`` with a text that differs each time. Every
reply is compared, id and text. Prints calls, seconds and wrong replies as JSON. It is the load of the WebSocket
bridge, and must cost less than what it measures: frames are made and read here, as they are (RFC 6455, 5.2).
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import sys
import time
from collections.abc import Iterator

import msgspec

IN_FLIGHT = 16
WARM_UP = 1.0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SIZE = 150


class Content(msgspec.Struct):
    text: str


class Result(msgspec.Struct):
    content: list[Content]


class Reply(msgspec.Struct):
    id: int
    result: Result | None = None


decode = msgspec.json.Decoder(Reply).decode


def accepted(listener: socket.socket) -> socket.socket:
    """The first connection, when it is a WebSocket."""
    peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
    token = base64.b64encode(hashlib.sha1(key.partition(b":")[2].strip() + _GUID).digest())
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + token
    peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n")
    return peer


def frame(message: bytes) -> bytes:
    size = len(message)
    return struct.pack("!BB", 0x81, size) + message if size < 126 else struct.pack("!BBH", 0x81, 126, size) + message


class Frames:
    """What comes of a peer that masks: text messages; pings are passed over."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._data = b""

    def messages(self) -> Iterator[bytes]:
        """The messages that the next bytes bring."""
        self._data += self._peer.recv(262144)
        at, data = 0, self._data
        while len(data) - at >= 2:
            size, begin = data[at + 1] & 0x7F, at + 2
            if size == 126:
                (size,), begin = struct.unpack_from("!H", data, begin), begin + 2
            elif size == 127:
                (size,), begin = struct.unpack_from("!Q", data, begin), begin + 8
            end = begin + 4 + size
            if len(data) < end:
                break
            if data[at] == 0x81:
                mask = data[begin : begin + 4] * (size // 4 + 1)
                whole = int.from_bytes(data[begin + 4 : end], "little") ^ int.from_bytes(mask[:size], "little")
                yield whole.to_bytes(size, "little")
            at = end
        self._data = data[at:]


def text_of(number: int) -> str:
    return f"{number:08d}".ljust(_SIZE, "x")


def call(number: int) -> bytes:
    return frame(
        b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","arguments":{"text":"%b"}}}'
        % (number, text_of(number).encode())
    )


def shake_hands(peer: socket.socket, frames: Frames) -> None:
    hello = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "cloud", "version": "1"}}
    peer.sendall(
        frame(json.dumps({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": hello}).encode())
        + frame(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        + frame(b'{"jsonrpc":"2.0","id":"l","method":"tools/list"}')
    )
    due = 2
    while due:
        due -= sum(b'"result"' in message for message in frames.messages())


def main(seconds: float) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    peer = accepted(listener)
    frames = Frames(peer)
    shake_hands(peer, frames)
    began, counted, wrong, number = 0.0, 0, 0, IN_FLIGHT
    warm = time.perf_counter() + WARM_UP
    due = {n: text_of(n) for n in range(IN_FLIGHT)}
    peer.sendall(b"".join(map(call, due)))
    while True:
        out = []
        for message in frames.messages():
            reply = decode(message)
            expected = due.pop(reply.id, None)
            wrong += reply.result is None or reply.result.content[0].text != expected
            counted += 1
            due[number] = text_of(number)
            out.append(call(number))
            number += 1
        now = time.perf_counter()
        if not began and now >= warm:
            began, counted = now, 0
            print("warm", flush=True)
        elif began and now - began >= seconds:
            break
        peer.sendall(b"".join(out))
    print(json.dumps({"calls": counted, "seconds": now - began, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
