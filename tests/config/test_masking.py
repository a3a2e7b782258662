"""What may be shown of URLs, arguments and texts: no secret, and otherwise as it was written."""

from __future__ import annotations

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config.masking import masked_arguments, masked_endpoint, masked_url, without

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://example.com/mcp", "https://example.com/mcp"),
        ("https://example.com/mcp?token=x&y=z#f", "https://example.com/mcp?token=***&y=***#f"),
        ("https://example.com/?token", "https://example.com/?***"),
        ("https://user:word@example.com:8/", "https://***@example.com:8/"),
        (f"https://example.com/s/{UUID}/mcp", "https://example.com/s/***/mcp"),
        ("https://example.com/openapi/mcp-server-2025", "https://example.com/openapi/mcp-server-2025"),
        (f"https://example.com/#{UUID}", "https://example.com/#***"),
        ("postgres://me:pass/word@host/db", "postgres://***"),
        ("http://[hunter2", "http://***"),
        ("hunter2]", "hunter2]"),
    ],
)
def test_urls(url: str, masked: str) -> None:
    assert masked_url(url) == masked


@pytest.mark.requirement("feature.134", "6.check.masking")
@pytest.mark.parametrize(
    ("endpoint", "masked"),
    [
        ("wss://api.xiaozhi.me/mcp/?token=eyJhbGciOiJFUzI1NiJ9.x.y", "wss://api.xiaozhi.me/mcp/?token=***"),
        ("wss://h/?z=1&token=x&a=%20b", "wss://h/?z=1&token=***&a=%20b"),
        ("ws://h:8004/mcp?device_id=7&api_key=x&Sig=y", "ws://h:8004/mcp?device_id=7&api_key=***&Sig=***"),
        ("wss://h/?%74oken=x", "wss://h/?%74oken=***"),
        (f"wss://h/?agent={UUID}", "wss://h/?agent=***"),
        ("wss://h/?hunter2", "wss://h/?***"),
        ("wss://h/?token=", "wss://h/?token="),
        (f"wss://me:hunter2@h/ws/{UUID}", "wss://***@h/ws/***"),
        ("wss://h:hunter2/", "wss://***"),
    ],
)
def test_endpoints_keep_what_is_no_secret_as_it_was_written(endpoint: str, masked: str) -> None:
    """Source system 000 wrote ``%2A%2A%2A``, and sorted the parameters."""
    assert masked_endpoint(endpoint) == masked


@given(
    names=st.lists(st.sampled_from(["a", "token", "b_key", "Secret", "z"]), max_size=5),
    secret=st.text(string.ascii_letters + "%&/?#@: é*", min_size=3, max_size=12),
)
def test_no_endpoint_shows_what_its_secret_parameters_hold(names: list[str], secret: str) -> None:
    hidden = quote(f"<{secret}>", safe="")
    values = {"a": "1", "z": "last"}
    query = "&".join(f"{name}={values.get(name, hidden)}" for name in names)

    masked = masked_endpoint(f"wss://host/mcp/?{query}")

    expected = "&".join(f"{name}={values.get(name, '***')}" for name in names)
    assert masked == f"wss://host/mcp/?{expected}".rstrip("?")


@pytest.mark.parametrize(
    ("args", "masked"),
    [
        (("-y", "pkg", "--port", "80"), ["-y", "pkg", "--port", "80"]),
        (("--api-key=x y", "y"), ["--api-key=***", "y"]),
        (("--API_TOKEN", "x", "y"), ["--API_TOKEN", "***", "y"]),
        (("--password", "--other", "x"), ["--password", "--other", "x"]),
        (("TOKEN=x", "--name=x"), ["TOKEN=***", "--name=x"]),
        (("--header", "Authorization: Bearer x"), ["--header", "Authorization: ***"]),
        (("-H", "Authorization", "Bearer x"), ["-H", "Authorization", "***"]),
        (("mcp-remote", "https://h/mcp?k=x"), ["mcp-remote", "https://h/mcp?k=***"]),
        (("--url=postgresql://me:x@h/db",), ["--url=postgresql://***@h/db"]),
        (("--config", '{"apiKey": "x", "n": 1}'), ["--config", '{"apiKey": "***", "n": 1}']),
        (("-c", "cd /srv && API_KEY=x node s.js"), ["-c", "cd /srv && API_KEY=*** node s.js"]),
        (("-c", "serve --token x --port 80"), ["-c", "serve --token *** --port 80"]),
        (("sk-ant-REDACTED",), ["***"]),
        (("-e", "keysecret" * 1000), ["-e", "***"]),
        (("@modelcontextprotocol/server-filesystem@2025.8.21", "/home/me"),) * 2,
    ],
)
def test_arguments(args: tuple[str, ...], masked: list[str]) -> None:
    assert masked_arguments(args) == list(masked)


def test_a_longer_secret_is_hidden_before_one_that_is_part_of_it() -> None:
    assert without(["secret", "secret-and-more"], "my secret-and-more, my secret") == "my ***, my ***"
