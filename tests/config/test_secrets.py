"""What counts as a secret of a configuration."""

from __future__ import annotations

from mcpgateway.config.model import Config, HttpOptions, HttpServer, Secret, StdioServer, UpstreamConfig
from mcpgateway.config.secrets import secrets_of


def stdio(*args: str, **env: str) -> Config:
    server = StdioServer("s", command="run", args=args, env={name: Secret(value) for name, value in env.items()})
    return Config(servers={"s": server})


def test_values_of_env_count_by_their_length_or_their_name() -> None:
    config = stdio(TZ="UTC", DEBUG="false", API_KEY="k3y!", TOKEN="abc", HOME_PAGE="no secret, but long")

    assert secrets_of(config) == {"k3y!", "no secret, but long"}


def test_headers_count_whole_and_by_their_credentials() -> None:
    headers = {"Authorization": Secret("Bearer s3cret-token"), "X-Mode": Secret("fast")}
    server = HttpServer("s", url="https://host/mcp?access_token=tok-1&page=2&blob=0123456789abcdef", headers=headers)

    assert secrets_of(Config(servers={"s": server})) == {
        *("Bearer s3cret-token", "s3cret-token", "tok-1", "0123456789abcdef")
    }


def test_tokens_of_upstreams_and_passwords_of_proxies_count() -> None:
    upstream = UpstreamConfig("u", Secret("wss://api.example/mcp/?token=eyJ-cloud"))
    server = HttpServer("s", url="https://host/mcp", http=HttpOptions(proxy=Secret("http://me:pa%24s@proxy:3128")))

    found = secrets_of(Config(upstreams=(upstream,), servers={"s": server}))

    assert {"wss://api.example/mcp/?token=eyJ-cloud", "eyJ-cloud", "pa%24s", "pa$s"} <= found
    assert "me" not in found
    assert "eyJ-cloud" in secrets_of(upstream)


def test_tokens_in_the_path_of_a_url_count() -> None:
    token = "0f8fad5b-d9cb-469f-a165-70867728950e"

    assert secrets_of(HttpServer("s", url=f"https://host/api/mcp/s/{token}/mcp")) == {token}


def test_arguments_behind_flags_that_say_so_count() -> None:
    config = stdio(
        "--api-key=k-12345", "--token", "t-12345", "-H", "Authorization: Bearer b-12345", "--verbose", "plain"
    )

    assert secrets_of(config) == {"k-12345", "t-12345", "Bearer b-12345", "b-12345"}


def test_urls_that_are_none_and_a_configuration_without_any_hold_no_secret() -> None:
    assert secrets_of(Config(servers={"s": HttpServer("s", url="http://[bad")})) == set()
    assert secrets_of(Config()) == set()
