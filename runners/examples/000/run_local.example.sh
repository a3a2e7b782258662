#!/bin/sh
# Runs the gateway on this machine. / 在本机运行网关。
#   cp run_local.example.sh run_local.sh && chmod +x run_local.sh
#   ./run_local.sh run|start|stop|restart|reload|status|logs|check|check-json
cd "$(dirname "$0")" || exit 1
if [ "${1-}" = build ]; then
    echo "nothing has to be built / 无需编译"
    exit 0
fi
if [ -e .env ]; then set -- "$@" --environment-file .env; fi
exec @PYTHON@ -m runners.service "$@" --config configs/mcp_config.json
