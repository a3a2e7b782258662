"""``runners.health``: whom it asks."""

from __future__ import annotations

import pytest

from runners import health


@pytest.mark.parametrize(
    ("url", "reachable"),
    [
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("https://[::]:8080", "https://[::1]:8080"),
        ("http://192.0.2.1:8080", "http://192.0.2.1:8080"),
    ],
)
def test_a_gateway_on_all_interfaces_is_asked_on_loopback(url: str, reachable: str) -> None:
    assert health.reachable(url) == reachable
