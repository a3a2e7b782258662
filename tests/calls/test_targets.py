"""What a request is about, read and rewritten."""

from __future__ import annotations

from mcpgateway import jsonrpc
from mcpgateway.calls.targets import named, with_name


def test_a_member_that_is_there_twice_reaches_the_server_once() -> None:
    """Or a rule could be told one name, and the server, which reads the other, another."""
    twice = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"denied","name":"allowed","x":1.0}}'
    message = jsonrpc.decode(twice)

    changed, _ = with_name(message, "name", named(message, "name"), None)

    assert changed.encode() == twice.replace(b'"name":"denied",', b"")
