"""``python -m tests.conformance.client_through REVISION ERA FOLDER CLIENT… URL``: run a client against a gateway.

The suite runs this as the client under test. The client is told to speak ``REVISION``, whatever the mock server at
``URL`` speaks, which the gateway speaks to in ``ERA``. ``FOLDER`` is for the gateway's log and its state.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conformance.legs import gateway


def main(revision: str, era: str, folder: str, *command: str) -> int:
    *client, url = command
    Path(folder).mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="gateway-", dir=folder))
    with gateway({"mock": {"url": url, "era": era}}, scratch) as through:
        env = {**os.environ, "MCP_CONFORMANCE_PROTOCOL_VERSION": revision}
        return subprocess.run([*client, f"{through}/mcp/mock"], check=False, env=env).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
