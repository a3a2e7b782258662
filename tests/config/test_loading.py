from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config.loading import format_of, from_value, load, loads, state_dir
from mcpgateway.config.model import Config, HttpServer, Secret, StdioServer
from mcpgateway.errors import ConfigError


def test_a_file_is_read_by_its_suffix_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yml"
    path.write_text("\ufeffservers: {a: {command: x, cwd: sub, env: {A: '${V}'}}}\nstate_dir: ~/s\n", "utf-8")

    loaded = load(path, env={"V": "w", "HOME": "/home/me"})

    server = StdioServer("a", command="x", cwd=tmp_path / "sub", env={"A": Secret("w")})
    assert loaded.config == Config(servers={"a": server}, state_dir=Path("/home/me/s"))
    assert loaded.config.source == str(path)
    assert loaded.warnings == []


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("a.yaml", "{", "yaml"),
        ("a.YML", "{", "yaml"),
        ("a.json", "a: 1", "json"),
        ("a.toml", "{", "toml"),
        ("a.conf", ' {"a": 1}', "json"),
        ("gatewayrc", "a: 1", "yaml"),
    ],
)
def test_formats(name: str, text: str, format: str) -> None:
    assert format_of(Path(name), text) == format


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    missing, latin = tmp_path / "missing.yaml", tmp_path / "latin.yaml"
    latin.write_bytes(b"a: \xe9")

    for path, problem in (missing, "cannot be read: No such file or directory"), (latin, "not UTF-8 (byte 3)"):
        with pytest.raises(ConfigError) as caught:
            load(path, env={})
        assert caught.value.problems == [f"{path}: {problem}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("state_dir: state\nserverz: {}\nservers: {a: {command: '${UNSET}'}}", "state"),
        ("state_dir: ${PLACE}\nport: 1", "there"),
        ("servers: 1", None),
        ("state_dir: {}", ""),
        ("state_dir: ${UNSET}", ""),
        ("{", ""),
    ],
)
def test_where_a_file_has_its_state_is_known_whatever_else_is_wrong(
    text: str, found: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    usual = Config().state_dir

    told = state_dir(file, env={"PLACE": "there", "HOME": str(Path.home())})

    assert told == (usual if found is None else tmp_path / found if found else None)
    assert state_dir(tmp_path, env={}) is None


def test_equal_texts_are_equal_configurations_wherever_they_come_from() -> None:
    """This is what a reload compares."""
    yaml = loads("servers: {a: {command: x, env: {A: b}}}", name="one", format="yaml", env={}).config
    json = loads('{"servers": {"a": {"env": {"A": "b"}, "command": "x"}}}', name="two", format="json", env={}).config
    toml = loads('[servers.a]\ncommand = "x"\nenv = {A = "c"}', name="three", format="toml", env={}).config

    assert yaml == json
    assert yaml != toml
    assert (yaml.source, json.source) == ("one", "two")


def test_an_embedder_gives_a_plain_value() -> None:
    value = {"servers": {"a": {"command": "x", "args": ("$1", "${A}"), "cwd": Path("/srv")}}}

    untouched = from_value(value).config.servers["a"]
    expanded = from_value(value, env={"A": "b"}).config.servers["a"]

    assert untouched == StdioServer("a", command="x", args=("$1", "${A}"), cwd=Path("/srv"))
    assert expanded == attrs.evolve(untouched, args=("$1", "b"))


def test_problems_of_a_plain_value_have_no_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        from_value({"servers": {"a": {}}}, name="the caller's")

    assert caught.value.problems == ["the caller's: servers['a']: needs one of 'command', 'url', 'module'"]


def test_values_of_headers_and_env_are_secrets() -> None:
    loaded = from_value({"servers": {"a": {"url": "https://x", "headers": {"A": "hidden"}}}})

    server = loaded.config.servers["a"]
    assert isinstance(server, HttpServer)
    assert server.headers["A"].reveal() == "hidden"
    assert "hidden" not in repr(loaded)


SECRET = "hid$den"
_PLACES = [
    "servers: {{a: {{command: x, env: {{KEY: {0}}}}}}}",
    "servers: {{a: {{url: 'https://x', headers: {{KEY: {0}}}}}}}",
    "servers: {{a: {{url: 'https://x', headers: {{'KEY: {0}'}}}}}}",
    "servers: {{a: {{command: x, env: {{KEY={0}}}}}}}",
    "servers: {{a: {{url: 'https://x', headers: {0}}}}}",
    "servers: {{a: {{command: x, env: [{0}]}}}}",
    "servers: {{a: {{command: x, env: {{KEY: [{0}]}}}}}}",
    "mcpServers: {{a: {{command: x, env: {{KEY: {0}}}, args: 5}}}}",
    "servers: {{a: {{url: 'https://{0}@x'}}}}",
    "servers: {{a: {{url: 'https://x y?key={0}', timeout: x}}}}",
]
_FORMS = [
    "{0}",
    "'{0}'",
    '"{0}"',
    "KEY: {0}",
    "KEY={0}",
    '"KEY: {0}"',
    "*{0}",
    "!{0}",
    "'{0}\0'",
    '"{0}\\n"',
    "{{KEY: {{KEY: {0}}}}}",
]


@given(st.sampled_from(_PLACES), st.sampled_from(_FORMS), st.sampled_from(["", "\n", "\t", " [", "}", "\nlisten: 5\n"]))
def test_no_message_holds_a_secret(place: str, form: str, tail: str) -> None:
    """Whatever is wrong with or about a header or a variable, and be it the syntax."""
    text = place.format(form.format(SECRET)) + tail
    try:
        told = repr(loads(text, name="f", format="yaml", env={}))
    except ConfigError as error:
        told = str(error)

    assert SECRET not in told


def test_ruamel_is_imported_for_yaml_only() -> None:
    """It takes as long to import as all the rest of this package."""
    script = (
        "import sys, mcpgateway.config.explain, mcpgateway.config.lookup, mcpgateway.config.loading as loading;"
        "loading.loads('{}', name='x', format='json', env={}); loading.loads('', name='x', format='toml', env={});"
        "print([name for name in ('ruamel', 'ruamel.yaml', 'trio', 'msgspec') if name in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
