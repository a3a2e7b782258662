"""Fixtures of the HTTP tests."""

from __future__ import annotations

import pytest

from tests.wire.http1.servers import KINDS


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The transport under the server."""
    return str(request.param)
