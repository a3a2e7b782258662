"""The fixture server of the conformance suite: the SDK's everything-server, which speaks both eras.

Runs in the suite's own environment: ``fixture_server.py FOLDER_OF_THE_EVERYTHING_SERVER PORT``, Streamable HTTP on
``http://127.0.0.1:PORT/mcp``.
"""

import importlib
import sys

import uvicorn

folder, port = sys.argv[1], int(sys.argv[2])
sys.path.insert(0, folder)
everything = importlib.import_module("mcp_everything_server.server")
app = everything.mcp.streamable_http_app(event_store=everything.event_store, retry_interval=100)
uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
