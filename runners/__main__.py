"""The console script ``mcp-gateway``: its first argument names a runner; without one, it is the gateway."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

RUNNERS = ("gateway", "bridge", "check", "stdio", "service", "remote", "init")


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand over to a runner; each is imported only if it is meant."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given.pop(0) if given and given[0] in RUNNERS else "gateway"
    if given and name == "gateway" and not given[0].startswith("-"):
        print(f"mcp-gateway: unknown command {given[0]!r}; there are: {', '.join(RUNNERS)}", file=sys.stderr)
        return 2
    run = import_module(f"runners.{name}").main
    status: int = run(given)
    return status


if __name__ == "__main__":
    sys.exit(main())
