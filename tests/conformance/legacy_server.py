"""The fixture server of the conformance suite as it would be in the legacy era alone, for modern clients of a gateway.

Runs in the suite's own environment. ``legacy_server.py FOLDER PORT``, with the folder of the everything-server, serves
Streamable HTTP on ``http://127.0.0.1:PORT/mcp``; ``stdio`` in the place of the port serves standard input and output.
Modern requests are refused in the words of SDKs that know nothing of them. The tools that answer a modern client with
``input_required`` ask their questions here during the call, as legacy servers do.
"""

import importlib
import json
import subprocess
import sys
import threading

folder, where = sys.argv[1], sys.argv[2]
sys.path.insert(0, folder)

import anyio  # noqa: E402  # of the suite's environment, as all that follows
from mcp.server.mcpserver.prompts import Prompt  # noqa: E402
from mcp.types import CreateMessageRequestParams, ListRootsRequest, ListRootsResult  # noqa: E402,F401
from mcp.types import SamplingMessage, TextContent  # noqa: E402
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS  # noqa: E402

everything = importlib.import_module("mcp_everything_server.server")
Context, UserMessage = everything.Context, everything.UserMessage
