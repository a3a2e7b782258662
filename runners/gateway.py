"""``python -m runners.gateway``: many MCP servers behind one HTTP endpoint. It dials the upstreams of its file too."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runners import serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve clients over HTTP; see `runners.serving.main`."""
    parser = serving.parser("gateway", "Many MCP servers behind one HTTP endpoint.")
    return serving.main(serving.Runner(parser, lambda given, loaded: True), arguments)


if __name__ == "__main__":
    sys.exit(main())
