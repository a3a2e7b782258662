"""The fixture server of the conformance suite: the SDK's everything-server, which speaks both eras, or one of them.

Runs in the suite's own environment. ``fixture_server.py FOLDER PORT [ERA]``, with the folder of the everything-server,
serves Streamable HTTP on ``http://127.0.0.1:PORT/mcp``; ``stdio`` in the place of the port serves standard input and
output, where the SDK keeps to the era of the first request. ``ERA`` is ``both`` or ``modern``.
"""

import importlib
import sys

folder, where, era = sys.argv[1], sys.argv[2], (*sys.argv[3:], "both")[0]
sys.path.insert(0, folder)
everything = importlib.import_module("mcp_everything_server.server")
if era == "modern":
    modern_only = importlib.import_module("modern_only")
    modern_only.ask_in_results(everything)
if where == "stdio" and era == "modern":
    modern_only.over_stdio([sys.executable, __file__, folder, "inner", era])
elif where in ("stdio", "inner"):
    everything.mcp.run("stdio")
else:
    import uvicorn

    app = everything.mcp.streamable_http_app(event_store=everything.event_store, retry_interval=100)
    app = modern_only.over_http(app) if era == "modern" else app
    uvicorn.run(app, host="127.0.0.1", port=int(where), log_level="warning", timeout_graceful_shutdown=1)
