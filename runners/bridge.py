"""``python -m runners.bridge``: many MCP servers, brought to the WebSockets of AI clouds that it dials.

It can stand in for ``mcp_pipe.py`` too: without upstreams in the file, ``MCP_ENDPOINT`` is dialled, which may come from
``.env`` in the working directory, and an argument names the one server, or Python script, to be shown there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mcpgateway.config import pipe
from mcpgateway.config.loading import Loaded
from mcpgateway.errors import ConfigError
from runners import options, serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Dial the upstreams of a configuration; see `runners.serving.main`."""
    parser = serving.parser("bridge", "Many MCP servers behind the WebSocket endpoints of AI clouds.")
    parser.add_argument(
        "target", nargs="?", help="show only this server of the configuration, or this Python script, to MCP_ENDPOINT"
    )
    return serving.main(serving.Runner(parser, listens, find, dotenv=True), arguments)


def find(given: argparse.Namespace) -> Loaded:
    """The configuration as it is now.

    :raises ConfigError: there is none, it is bad, or it says of nothing that it is to be dialled
    """
    target = vars(given).get("target")  # a check has none
    if target is None:
        loaded = options.named_configuration(given)
    else:
        found = options.look_for_configuration(given.config, demo=given.demo)
        loaded = pipe.targeted(found, target, is_file=os.path.isfile, python=sys.executable)
    return pipe.bridged(loaded, os.environ)


def listens(given: argparse.Namespace, loaded: Loaded) -> bool:
    """Whether to serve clients over HTTP as well: where the file or a flag speaks of it, or metrics need it.

    :raises ConfigError: there is nothing to dial
    """
    config = loaded.config
    if not any(upstream.enabled for upstream in config.upstreams):
        missing = "none of 'upstreams' is enabled" if config.upstreams else "set MCP_ENDPOINT, or name 'upstreams'"
        text = f"there is no upstream to dial: {missing} (runners.gateway serves clients without)"
        raise ConfigError([f"{config.source}: {text}" if config.source else text])
    asked = "listen" in loaded.keys or given.host is not None or given.port is not None
    return asked or (config.metrics.enabled and config.metrics.port is None)


if __name__ == "__main__":
    sys.exit(main())
