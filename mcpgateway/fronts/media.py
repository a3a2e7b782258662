"""What media a request names: its own, and those that its client takes (MCP, transports)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcpgateway.errors import InvalidRequest, ParseError


class NotAcceptable(InvalidRequest):
    """The client does not take what the answer may be."""

    status = 406


class UnsupportedMedia(ParseError):
    """The body is not said to be JSON."""

    status = 415


_JSON: Final = frozenset({b"application/json", b"application/*", b"*/*"})
_EVENTS: Final = frozenset({b"text/event-stream", b"text/*", b"*/*"})


def _ranges(accept: bytes) -> set[bytes]:
    """The media ranges of an ``Accept`` header."""
    return {part.partition(b";")[0].strip().lower() for part in accept.split(b",")}


_good_media: set[tuple[bytes | None, bytes | None]] = set()
"""Pairs of Accept and Content-Type that were found good; clients send few different ones."""


def check_media(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a POST that is not JSON, or whose client takes no JSON or no event stream (MCP, transports)."""
    pair = (headers.get(b"accept"), headers.get(b"content-type"))
    if pair in _good_media:
        return
    accept = pair[0]
    check_json(headers)
    if accept is not None:
        ranges = _ranges(accept)
        if not ranges & _JSON or not ranges & _EVENTS:
            raise NotAcceptable("Accept must list application/json and text/event-stream")
    if len(_good_media) < 64:
        _good_media.add(pair)


def check_json(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a POST that is not JSON: a page of another origin may send anything else without being asked first."""
    if headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMedia("the Content-Type of a message is application/json")


def check_stream_media(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a GET whose client takes no event stream."""
    accept = headers.get(b"accept")
    if accept is not None and not _ranges(accept) & _EVENTS:
        raise NotAcceptable("Accept must list text/event-stream")
