# An image with Python, Node and uv, so that servers started by `npx` and `uvx` work in it.
#
#   docker build -t mcp-gateway .
#   docker run -v ./mcp-gateway.yaml:/etc/mcp-gateway/config.yaml:ro -p 127.0.0.1:8080:8080 mcp-gateway
#   docker run -v ./mcp_config.json:/etc/mcp-gateway/config.json:ro -e MCP_ENDPOINT mcp-gateway bridge
#
# Nothing listens on other interfaces than loopback unless the configuration says so, with `insecure: true`, because
# there is no authentication yet; see compose.yaml for one that does.

FROM ghcr.io/astral-sh/uv:0.12 AS uv

FROM node:22-bookworm-slim AS node

FROM python:3.13-slim-bookworm AS build
WORKDIR /source
COPY LICENSE README.md pyproject.toml ./
COPY mcpgateway mcpgateway
COPY runners runners
RUN python -m venv /opt/mcp-gateway && /opt/mcp-gateway/bin/pip install --no-cache-dir .

FROM python:3.13-slim-bookworm
# The gateway does not reap what its servers leave behind when they end; as process 1 it would have to. tini does.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 gateway
COPY --from=uv /uv /uvx /usr/local/bin/
COPY --from=node /usr/local/bin/node /usr/local/bin/
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
    && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
COPY --from=build /opt/mcp-gateway /opt/mcp-gateway
ENV HOME=/home/gateway PATH=/opt/mcp-gateway/bin:$PATH
USER 1000
WORKDIR /home/gateway
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["mcp-gateway", "service", "status"]
ENTRYPOINT ["tini", "--", "mcp-gateway"]
CMD ["gateway"]
