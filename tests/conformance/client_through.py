"""``python -m tests.conformance.client_through FOLDER CLIENT… URL``: run a client against a gateway in front of a URL.

The suite runs this as the client under test. ``FOLDER`` is for the gateway's log and its state.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conformance.legs import gateway


def main(folder: str, *command: str) -> int:
    *client, url = command
    Path(folder).mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="gateway-", dir=folder))
    with gateway({"mock": {"url": url}}, scratch) as through:
        return subprocess.run([*client, f"{through}/mcp/mock"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
