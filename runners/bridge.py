"""``python -m runners.bridge``: many MCP servers, brought to the WebSockets of AI clouds that it dials."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mcpgateway.config.loading import Loaded
from mcpgateway.errors import ConfigError
from runners import serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Dial the upstreams of a configuration; see `runners.serving.main`."""
    parser = serving.parser("bridge", "Many MCP servers behind the WebSocket endpoints of AI clouds.")
    return serving.main(serving.Runner(parser, listens), arguments)


def listens(given: argparse.Namespace, loaded: Loaded) -> bool:
    """Whether to serve clients over HTTP as well: where the file or a flag speaks of it, or metrics need it.

    :raises ConfigError: there is nothing to dial
    """
    config = loaded.config
    if not any(upstream.enabled for upstream in config.upstreams):
        text = "there is no upstream to dial: the bridge needs 'upstreams' (runners.gateway serves clients without)"
        raise ConfigError([f"{config.source}: {text}" if config.source else text])
    asked = "listen" in loaded.keys or given.host is not None or given.port is not None
    return asked or (config.metrics.enabled and config.metrics.port is None)


if __name__ == "__main__":
    sys.exit(main())
