"""The fixture server of the conformance suite: the SDK's everything-server, which speaks both eras.

Runs in the suite's own environment. ``fixture_server.py FOLDER PORT``, with the folder of the everything-server, serves
Streamable HTTP on ``http://127.0.0.1:PORT/mcp``; ``stdio`` in the place of the port serves standard input and output,
where the SDK keeps to the era of the first request.
"""

import importlib
import sys

folder, where = sys.argv[1], sys.argv[2]
sys.path.insert(0, folder)
everything = importlib.import_module("mcp_everything_server.server")
if where == "stdio":
    everything.mcp.run("stdio")
else:
    import uvicorn

    app = everything.mcp.streamable_http_app(event_store=everything.event_store, retry_interval=100)
    uvicorn.run(app, host="127.0.0.1", port=int(where), log_level="warning", timeout_graceful_shutdown=1)
