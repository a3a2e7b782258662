"""``python -m runners.bridge``: many MCP servers, brought to the WebSockets of AI clouds that it dials.

It also does what ``mcp_pipe.py`` does: with ``MCP_ENDPOINT``, ``.env`` in the working directory, and a file that names
servers and no upstream, or a server or Python script as its argument.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mcpgateway.config import lookup, pipe
from mcpgateway.config.loading import Loaded
from mcpgateway.errors import ConfigError
from runners import environment, options, serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Dial the upstreams of a configuration; see `runners.serving.main`."""
    parser = serving.parser("bridge", "Many MCP servers behind the WebSocket endpoints of AI clouds.")
    parser.add_argument(
        "target", nargs="?", metavar="SERVER", help="one server of the file, or a Python script, for MCP_ENDPOINT alone"
    )
    inherited = dict(os.environ)

    def read(given: argparse.Namespace) -> Loaded:
        """Servers inherit what ``.env`` adds; it is read anew each time, for a reload may bring a new token."""
        added = environment.with_dotenv(inherited).items() - inherited.items()
        os.environ.update(dict(added))
        return piped(given)

    return serving.main(serving.Runner(parser, listens, read), arguments)


def piped(given: argparse.Namespace) -> Loaded:
    """The configuration of the flags and the environment, as the bridge takes it.

    :raises ConfigError: there is none, or it is bad
    """
    if given.target is None:
        return pipe.bridged(options.find_configuration(given.config, demo=given.demo), os.environ)
    none = not given.demo and lookup.find(given.config, env=os.environ, cwd=Path(), home=Path.home()) is None
    loaded = None if none else options.find_configuration(given.config, demo=given.demo)
    named = pipe.targeted(loaded, given.target, is_file=os.path.isfile, python=sys.executable)
    return pipe.bridged(named, os.environ)


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
