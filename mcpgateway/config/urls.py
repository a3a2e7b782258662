"""What is wrong with a URL, without showing it: it may hold a secret anywhere. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit


def url_problem(url: str, *, schemes: Sequence[str] = ("http", "https")) -> str:
    """What is wrong with the URL of a server, without showing it; empty where nothing is."""
    if not url.isprintable() or " " in url:
        return "is no URL: it holds spaces or control characters"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is no URL: its host or port is malformed"
    if parts.scheme not in schemes:
        return f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if not parts.hostname:
        return "has no host"
    if "@" in parts.netloc:
        return "must not hold a user name or password (use 'headers')"
    return ""
