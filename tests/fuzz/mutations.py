"""Mutations of known inputs: what a fuzzer without coverage does, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

LONGEST: Final = 4096
"""Bytes of a mutant."""

TOKENS: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xc3\x28",
        b"\xe2\x80\xa8",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
    ),
    *(b'"', b"'", b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b"{}", b"[]", b"null", b"true", b"-", b"."),
    *(b"0", b"-1", b"1e999", b"9" * 30, b"9007199254740993", b"[" * 200, b'{"a":' * 200),
    *(b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"GET / HTTP/1.1\r\n", b"HTTP/1.0"),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: a\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n"),
    *(b"5\r\nhello\r\n0\r\n\r\n", b"fffffffffffffffff\r\n", b"data: ", b"id: ", b"event: ", b"retry: 9\n", b"\n\n"),
    *(b'"jsonrpc":"2.0"', b'"id":1', b'"method":"tools/call"', b'"params":{}', b'"result":{}', b'"error":{}'),
    *(b'"_meta":{}', b'"progressToken":1', b'"io.modelcontextprotocol/subscriptionId":3', b'"code":1e999'),
    *(b"${TOKEN}", b"${", b"$$", b"&a", b"*a", b"<<: *a", b"---\n", b"!!int", b"#", b"- ", b"? ", b"| \n", b"1:2:3"),
    *(b"=?base64?", b"?=", b"servers", b"mcpServers", b"1h", b"30s", b"ms", b"\xc2\xb5s"),
)


class Mutator:
    """Makes inputs of others. Everything comes from ``random`` and ``corpus``, which must not be empty."""

    def __init__(self, random: Random, corpus: Sequence[bytes]) -> None:
        self._random = random
        self._corpus = corpus

    def mutant(self, data: bytes | None = None) -> bytes:
        """One input: of ``data``, or of something in the corpus, changed in one to five places."""
        random = self._random
        data = random.choice(self._corpus) if data is None else data
        for _ in range(random.choice((1, 1, 2, 3, 5))):
            data = random.choice(_CHANGES)(self, data)
        return data[:LONGEST]

    def _cut(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """Before, a short part, and behind it."""
        start = self._random.randint(0, len(data))
        end = min(len(data), start + self._random.choice((0, 1, 2, 4, 16, 64)))
        return data[:start], data[start:end], data[end:]

    def flip(self, data: bytes) -> bytes:
        before, part, after = self._cut(data)
        return before + bytes(byte ^ 1 << self._random.randrange(8) for byte in part[:1]) + part[1:] + after

    def insert(self, data: bytes) -> bytes:
        before, part, after = self._cut(data)
        return before + self._random.choice(TOKENS) + part + after

    def replace(self, data: bytes) -> bytes:
        before, _, after = self._cut(data)
        return before + self._random.choice(TOKENS) + after

    def remove(self, data: bytes) -> bytes:
        before, _, after = self._cut(data)
        return before + after

    def repeat(self, data: bytes) -> bytes:
        before, part, after = self._cut(data)
        return before + part * self._random.choice((2, 3, 50)) + after

    def splice(self, data: bytes) -> bytes:
        before, _, _ = self._cut(data)
        _, part, after = self._cut(self._random.choice(self._corpus))
        return before + part + after

    def noise(self, data: bytes) -> bytes:
        before, part, after = self._cut(data)
        return before + self._random.randbytes(len(part)) + after


_CHANGES: Final[tuple[Callable[[Mutator, bytes], bytes], ...]] = (
    *(Mutator.flip, Mutator.insert, Mutator.insert, Mutator.replace, Mutator.remove, Mutator.repeat, Mutator.splice),
    Mutator.noise,
)
