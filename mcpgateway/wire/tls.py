"""TLS contexts. Making one costs 16 ms, so there is one for servers of a kind, and one per listener."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[Path, int]
"""A file, and when it was changed last."""

_NONE = ""
"""The password of keys. Without one, OpenSSL asks the terminal for that of a key that is encrypted."""


def client_context(
    *, ca: Path | None = None, identity: tuple[Path, Path] | None = None, http2: bool = False
) -> ssl.SSLContext:
    """The context for connections to servers: the system's trust store, TLS 1.2 or newer; the same each time.

    ``ca`` are authorities in PEM to be trusted beside the system's; ``identity`` is a certificate and its key, for
    servers that ask who we are. Files that have changed are read again. ``http2`` offers that beside HTTP/1.1.

    :raises OSError: a file cannot be read, or is not what it should be; the message names it
    """
    cert, key = identity or (None, None)
    return _client_context(_stamp(ca), _stamp(cert), _stamp(key), http2)


def _stamp(path: Path | None) -> Stamp | None:
    try:
        return None if path is None else (path, path.stat().st_mtime_ns)
    except OSError as problem:
        raise OSError(f"{path}: {problem.strerror}") from None


@functools.lru_cache(maxsize=64)
def _client_context(ca: Stamp | None, cert: Stamp | None, key: Stamp | None, http2: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca[0])
        except OSError as problem:
            raise OSError(f"{ca[0]} holds no authorities that can be read: {_reason(problem)}") from None
    if cert is not None and key is not None:
        try:
            context.load_cert_chain(cert[0], key[0], password=_NONE)
        except OSError as problem:
            raise OSError(f"{cert[0]} and {key[0]} are no client certificate and its key: {_reason(problem)}") from None
    return context


def _reason(problem: OSError) -> str:
    return problem.reason if isinstance(problem, ssl.SSLError) and problem.reason else str(problem.strerror or problem)


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """The context of a listener.

    :raises OSError: a file cannot be read, or (as `ssl.SSLError`) is not a PEM certificate and its key
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key, password=_NONE)
    return context
