"""Which resources lie below which."""

from __future__ import annotations

import pytest

from mcpgateway.protocol.uris import lies_below


@pytest.mark.parametrize(
    ("uri", "above", "below"),
    [
        ("x:/a/b", "x:/a", True),
        ("x:/a/b", "x:/a/", True),
        ("x:/a?q", "x:/a", True),
        ("x:/a#f", "x:/a", True),
        ("x:/ab", "x:/a", False),
        ("x:/12", "x:/1", False),
        ("x:/a", "x:/a", False),
        ("x:/a", "x:/a/b", False),
        ("x:/a", "x:/", True),
        ("x:/a", "", False),
    ],
)
def test_what_lies_below_a_uri(uri: str, above: str, below: bool) -> None:
    assert lies_below(uri, above) is below
