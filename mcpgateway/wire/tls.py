"""TLS contexts. Making one costs 16 ms, so there is one for all servers and one per listener."""

from __future__ import annotations

import functools
import ssl
from pathlib import Path


@functools.cache
def client_context() -> ssl.SSLContext:
    """The context for all connections to servers: the system's trust store, TLS 1.2 or newer."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """The context of a listener.

    :raises OSError: a file cannot be read, or (as `ssl.SSLError`) is not a PEM certificate and its key
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context
