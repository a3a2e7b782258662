"""How many connections there can be is what the system grants."""

from __future__ import annotations

import resource

import pytest

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Config, Listen
from runners.open_files import fitted

NONE = resource.RLIM_INFINITY


class System:
    """A system with these limits of open files; ``stubborn`` ones are not to be changed."""

    def __init__(self, soft: int, hard: int, *, stubborn: bool = False) -> None:
        self.limits = (soft, hard)
        self._stubborn = stubborn

    def get(self, what: int) -> tuple[int, int]:
        assert what == resource.RLIMIT_NOFILE
        return self.limits

    def set(self, what: int, limits: tuple[int, int]) -> None:
        if self._stubborn:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "connections"),
    [
        (20_000, 20_000, 20_000, 4096),
        (NONE, NONE, NONE, 4096),
        (1024, 20_000, 5120, 4096),
        (256, NONE, 5120, 4096),
        (1024, 4096, 4096, 3072),
        (1024, 1024, 1024, 512),
    ],
)
def test_the_limit_is_raised_and_what_it_does_not_grant_is_not_promised(
    soft: int, hard: int, raised: int, connections: int, caplog: pytest.LogCaptureFixture
) -> None:
    system = System(soft, hard)
    limits = fitted(Config(), get=system.get, set=system.set).listen.limits

    assert system.limits == (raised, hard)
    assert limits == Limits(connections=connections)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (connections < 4096)
    assert all(f"there can be {connections} connections and not 4096" in warning for warning in warnings)


def test_a_limit_that_cannot_be_raised_is_lived_with() -> None:
    system = System(1024, 20_000, stubborn=True)
    config = Config(listen=Listen(limits=Limits(connections_per_address=3000)))
    limits = fitted(config, get=system.get, set=system.set).listen.limits

    assert (limits.connections, limits.connections_per_address) == (512, 512)
