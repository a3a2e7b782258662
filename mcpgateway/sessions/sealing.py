"""State that a client carries for the gateway: encrypted, and of use only where it was meant to be used.

A seal is AES-GCM under a key that every process of a gateway shares (`load_keys`), so that any of them, and the next
one after a restart, opens what another sealed. The ``purpose`` and the ``binding`` (principal, namespace, …) are
authenticated with it: what was sealed for one principal, or as a cursor, opens for no other and as nothing else.

A seal is ``{node}.{base64url}`` of the key's fingerprint, the nonce and the ciphertext; the node says who sealed it, so
that a front of several nodes can route by it. It holds no secret in the clear and is safe in URLs and headers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from mcpgateway.errors import JSON
from mcpgateway.wire import private

log = logging.getLogger("mcpgateway.sessions")

KEY_BYTES: Final = 32
_FINGERPRINT_BYTES: Final = 4
_NONCE_BYTES: Final = 12  # NIST SP 800-38D, 8.2: the length for which AES-GCM takes a nonce as it is


class Broken(ValueError):
    """Not a seal of ours, changed on its way, meant for something or somebody else, or expired."""


class _Contents(msgspec.Struct, array_like=True, gc=False):
    expires: float
    claims: dict[str, object]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Contents).decode


class Sealer:
    """Seals and opens. ``keys`` gives the key ring, newest first: the first one seals, all of them open.

    `load` has to be awaited before the first use; it calls ``keys`` once, in a worker thread. ``clock`` is wall time in
    seconds, because seals outlive the process.
    """

    def __init__(
        self, keys: Callable[[], Sequence[bytes]], *, node: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._node = node
        self._clock = clock
        self._ring: dict[bytes, bytes] = {}
        self._lock = trio.Lock()

    async def load(self) -> None:
        """Be ready to seal; reads the keys and imports the cipher where that has not been done."""
        async with self._lock:
            if not self._ring:
                self._ring = await trio.to_thread.run_sync(self._read)

    def _read(self) -> dict[bytes, bytes]:
        from cryptography.hazmat.primitives.ciphers import aead  # noqa: F401  # 30 ms that few gateways need

        return {_fingerprint(key): key for key in self._keys()}

    def seal(self, purpose: str, claims: Mapping[str, JSON], *, binding: Sequence[str], lifetime: float) -> str:
        """Seal claims for ``lifetime`` seconds."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # see `_read`

        fingerprint, key = next(iter(self._ring.items()))
        nonce = secrets.token_bytes(_NONCE_BYTES)
        contents = _encode(_Contents(self._clock() + lifetime, dict(claims)))
        sealed = AESGCM(key).encrypt(nonce, contents, _context(self._node, purpose, binding))
        return f"{self._node}.{base64.urlsafe_b64encode(fingerprint + nonce + sealed).decode().rstrip('=')}"

    def open(self, purpose: str, seal: str, *, binding: Sequence[str]) -> dict[str, object]:
        """The claims in a seal.

        :raises Broken: it does not open, whatever the reason
        """
        from cryptography.exceptions import InvalidTag  # see `_read`
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        node, _, text = seal.rpartition(".")
        data = _unbase64(text)
        key = self._ring.get(data[:_FINGERPRINT_BYTES])
        if key is None:
            raise Broken("sealed with a key that is not ours")
        nonce, sealed = data[_FINGERPRINT_BYTES:][:_NONCE_BYTES], data[_FINGERPRINT_BYTES + _NONCE_BYTES :]
        try:
            contents = _decode(AESGCM(key).decrypt(nonce, sealed, _context(node, purpose, binding)))
        except (InvalidTag, ValueError):
            raise Broken("changed, or meant for something else") from None
        if contents.expires <= self._clock():
            raise Broken("expired")
        return contents.claims


def _context(node: str, purpose: str, binding: Sequence[str]) -> bytes:
    """What is authenticated with a seal; JSON, so that no two bindings are spelled alike."""
    return _encode([node, purpose, list(binding)])


def _fingerprint(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()[:_FINGERPRINT_BYTES]


def _unbase64(text: str) -> bytes:
    """Canonical base64url only: one seal has one spelling."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise Broken("not a seal") from None
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise Broken("not a seal")
    return data


# ---- keys ------------------------------------------------------------------------------------------------------------


def load_keys(path: Path) -> tuple[bytes, ...]:
    """The key ring in a file, newest first, one base64 key of 32 bytes a line; made with one key where there is none.

    The file has mode 0600 (another is warned of), a directory made for it 0700. Of several processes that make it at
    once all take the one that was there first. Where it cannot be written or read, a key of this process stands in,
    with one warning.
    """
    try:
        private.directory(path.parent)
        if not path.exists():
            private.create(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        keys = _parse(path.read_text("ascii"))
        if path.stat().st_mode & 0o077:
            log.warning("%s can be read by others, who can then seal as this gateway does: chmod 600 it", path)
        return keys
    except (OSError, ValueError) as problem:
        log.warning("%s cannot be used (%s): what is sealed now does not open after a restart", path, _reason(problem))
        return (secrets.token_bytes(KEY_BYTES),)


def _parse(text: str) -> tuple[bytes, ...]:
    keys = tuple(base64.b64decode(line, validate=True) for line in text.split())
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError("holds something that is not a key")
    return keys


def _reason(problem: Exception) -> str:
    """Why, without a word of what the file holds."""
    return problem.strerror or type(problem).__name__ if isinstance(problem, OSError) else "is not a key ring"
