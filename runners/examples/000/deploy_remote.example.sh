#!/bin/sh
# Runs the gateway on another machine, over ssh. / 通过 ssh 在远程服务器上运行网关。
#   cp deploy_remote.example.sh deploy_remote.sh && chmod +x deploy_remote.sh
#   ./deploy_remote.sh deploy|upload|start|stop|restart|reload|status|logs|logs-f
REMOTE_HOST=${REMOTE_HOST:-root@your-server-ip}
REMOTE_DIR=${REMOTE_DIR:-/opt/mcp-gateway}

cd "$(dirname "$0")" || exit 1
if [ "${1-}" = build ]; then
    echo "nothing has to be built / 无需编译"
    exit 0
fi
command=${1:-}
[ $# -eq 0 ] || shift
if [ -e .env ]; then set -- "$@" --environment-file .env; fi
exec @PYTHON@ -m runners.remote "$command" "$REMOTE_HOST" "$@" --directory "$REMOTE_DIR" --config configs/mcp_config.json
