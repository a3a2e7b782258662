"""``python -m runners.bridge``: many MCP servers, brought to the WebSockets of AI clouds that it dials."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from mcpgateway.config import pipe
from mcpgateway.config.loading import Loaded
from mcpgateway.config.lookup import find
from mcpgateway.errors import ConfigError
from runners import serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Dial the upstreams of a configuration; see `runners.serving.main`."""
    parser = serving.parser("bridge", "Many MCP servers behind the WebSocket endpoints of AI clouds.")
    parser.add_argument(
        "target",
        nargs="?",
        metavar="SERVER",
        help="show this one alone to MCP_ENDPOINT: a server of the configuration, or a Python script",
    )
    return serving.main(serving.Runner(parser, partial(load, dict(os.environ)), listens), arguments)


def load(environ: Mapping[str, str], given: argparse.Namespace) -> Loaded:
    """The configuration with what the bridge's forerunners made of it (`mcpgateway.config.pipe`).

    ``environ`` are the variables that this process began with. Those of ``.env`` come to them, as it is now: servers
    inherit them.

    :raises ConfigError: there is no configuration, or it is bad
    """
    os.environ.update(pipe.environment(environ, _dotenv()))
    loaded = None
    if given.target is None or given.demo or _is_somewhere(given.config):
        loaded = serving.load(given)
    if given.target is not None:
        loaded = pipe.targeted(loaded, given.target, is_file=os.path.isfile, python=sys.executable)
    assert loaded is not None
    return pipe.bridged(loaded, os.environ)


def _is_somewhere(explicit: Path | None) -> bool:
    return find(explicit, env=os.environ, cwd=Path(), home=Path.home()) is not None


def _dotenv() -> str | None:
    try:
        return Path(".env").read_text("utf-8-sig")
    except OSError:
        return None
    except UnicodeDecodeError as problem:
        raise ConfigError([f".env: not UTF-8 (byte {problem.start})"]) from None


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
