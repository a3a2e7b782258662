"""As many connections as this process may have files open: a bound that the system does not grant is none."""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from typing import Final

import attrs

from mcpgateway.config.model import Config

log = logging.getLogger("mcpgateway")

SPARE: Final = 1024
"""Open files for everything that is no client's connection: children, links, the log."""


def fitted(
    config: Config,
    *,
    get: Callable[[int], tuple[int, int]] = resource.getrlimit,
    set: Callable[[int, tuple[int, int]], None] = resource.setrlimit,
) -> Config:
    """The configuration with ``connections`` as the limit of open files allows, which is raised first if it can be.

    Without it, a flood of connections would take the last descriptor, and then nobody is let in, and no server started.
    """
    limits = config.listen.limits
    soft, hard = get(resource.RLIMIT_NOFILE)
    wanted = limits.connections + SPARE
    if _less(soft, wanted):
        raised = wanted if _less(wanted, hard) else hard
        try:
            set(resource.RLIMIT_NOFILE, (raised, hard))
        except (OSError, ValueError):
            raised = soft
        soft = raised
    if not _less(soft, wanted):
        return config
    most = max(soft - SPARE, soft // 2)
    log.warning(
        "this process may have %d files open, so there can be %d connections and not %d (listen.limits.connections); "
        "raise the hard limit (ulimit -Hn) for more",
        *(soft, most, limits.connections),
    )
    of_one = limits.connections_per_address
    fitting = attrs.evolve(
        limits, connections=most, connections_per_address=None if of_one is None else min(of_one, most)
    )
    return attrs.evolve(config, listen=attrs.evolve(config.listen, limits=fitting))


def _less(one: int, other: int) -> bool:
    """Of two limits, one of which may be none at all."""
    return one != resource.RLIM_INFINITY and (other == resource.RLIM_INFINITY or one < other)
