"""How the URIs of resources relate (MCP 2026-07-28, subscriptions: a sub-resource is told of under its own URI)."""

from __future__ import annotations


def lies_below(uri: str, above: str) -> bool:
    """Whether a URI is that of a sub-resource of another: it goes on behind it, with another segment."""
    if not above or not uri.startswith(above) or uri == above:
        return False
    return not (above[-1:].isalnum() and uri[len(above)].isalnum())
