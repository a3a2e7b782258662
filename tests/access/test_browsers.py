"""Which Hosts and Origins are served: tables, and what holds for every page of the web."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.access.browsers import BrowserPolicy, is_loopback
from mcpgateway.errors import Forbidden

LOOPBACK_NAMES = ["localhost", "LOCALHOST", "localhost.", "app.localhost", "127.0.0.1", "127.8.9.10", "[::1]", "::1"]
FOREIGN_NAMES = [
    *("example.com", "localhost.example.com", "127.0.0.1.example.com", "notlocalhost", "0.0.0.0", "10.0.0.1"),
    *("[::2]", "127.0.0.1x", "", "local host", "[", "169.254.169.254", "2130706433"),
]


@pytest.mark.parametrize("name", LOOPBACK_NAMES)
def test_loopback_names(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", FOREIGN_NAMES)
def test_other_names(name: str) -> None:
    assert not is_loopback(name)


def served(policy: BrowserPolicy, host: str | None, origin: str | None = None) -> bool:
    try:
        policy.check(*(None if value is None else value.encode("latin-1") for value in (host, origin)))
    except Forbidden:
        return False
    return True


# ---- Host ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LOOPBACK_NAMES if name != "::1"])
@pytest.mark.parametrize("port", ["", ":80", ":8080"])
def test_a_loopback_listener_serves_loopback_hosts(name: str, port: str) -> None:
    assert served(BrowserPolicy("127.0.0.1"), name + port)


@pytest.mark.parametrize("name", FOREIGN_NAMES)
@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "localhost"])
def test_a_loopback_listener_serves_no_other_host(bound: str, name: str) -> None:
    assert not served(BrowserPolicy(bound), name)
    assert not served(BrowserPolicy(bound), f"{name}:8080")


def test_a_request_without_a_host_is_not_served_on_loopback() -> None:
    assert not served(BrowserPolicy("127.0.0.1"), None)


HOSTS = [
    ("127.0.0.1", ["gateway.test"], "gateway.test", True),
    ("127.0.0.1", ["gateway.test"], "GATEWAY.test:8080", True),
    ("127.0.0.1", ["Gateway.Test"], "gateway.test", True),
    ("127.0.0.1", ["gateway.test:8080"], "gateway.test:8080", True),
    ("127.0.0.1", ["gateway.test:8080"], "gateway.test:8081", False),
    ("127.0.0.1", ["gateway.test"], "localhost", True),
    ("127.0.0.1", ["gateway.test"], "other.test", False),
    ("0.0.0.0", [], "anything.test", True),
    ("0.0.0.0", [], None, True),
    ("0.0.0.0", ["gateway.test"], "gateway.test", True),
    ("0.0.0.0", ["gateway.test"], "other.test", False),
    ("0.0.0.0", ["gateway.test"], "localhost", False),
    ("0.0.0.0", ["gateway.test"], None, False),
    ("192.168.0.7", ["gateway.test"], "[", False),
]


@pytest.mark.parametrize(("bound", "allowed", "host", "expected"), HOSTS)
def test_allowed_hosts(bound: str, allowed: list[str], host: str | None, expected: bool) -> None:
    assert served(BrowserPolicy(bound, allowed_hosts=allowed), host) is expected


def test_the_refusal_of_a_host_says_what_to_configure() -> None:
    with pytest.raises(Forbidden, match=r"'evil\.test'; see listen\.allowed_hosts"):
        BrowserPolicy("127.0.0.1").check(b"evil.test:8080", None)


# ---- Origin ----------------------------------------------------------------------------------------------------------

ORIGINS = [
    ("127.0.0.1", [], "localhost:8080", "http://localhost:8080", True),
    ("127.0.0.1", [], "localhost:8080", "http://localhost:6274", True),
    ("127.0.0.1", [], "localhost:8080", "http://127.0.0.1:3000", True),
    ("127.0.0.1", [], "localhost:8080", "http://[::1]:3000", True),
    ("127.0.0.1", [], "localhost:8080", "http://evil.test", False),
    ("127.0.0.1", [], "localhost:8080", "http://localhost.evil.test:8080", False),
    ("127.0.0.1", [], "localhost:8080", "http://evil.test/?localhost", False),
    ("127.0.0.1", [], "localhost:8080", "http://localhost@evil.test", False),
    ("127.0.0.1", [], "localhost:8080", "null", False),
    ("127.0.0.1", [], "localhost:8080", "http://[", False),
    ("127.0.0.1", [], "localhost:8080", "http://localhost:port", False),
    ("127.0.0.1", ["https://app.test"], "localhost:8080", "https://app.test", True),
    ("127.0.0.1", ["https://app.test"], "localhost:8080", "http://app.test", False),
    ("127.0.0.1", ["https://app.test"], "localhost:8080", "https://app.test:444", False),
    ("127.0.0.1", ["https://app.test"], "evil.test", "https://app.test", False),
    ("127.0.0.1", ["*"], "localhost", "https://anything.test", True),
    ("127.0.0.1", ["*"], "evil.test", "https://anything.test", False),
    ("0.0.0.0", [], "gateway.test", "https://gateway.test", True),
    ("0.0.0.0", [], "gateway.test:8080", "http://gateway.test:8080", True),
    ("0.0.0.0", [], "gateway.test:8080", "http://gateway.test", False),
    ("0.0.0.0", [], "gateway.test", "http://localhost", False),
    ("0.0.0.0", [], "gateway.test", "null", False),
    ("0.0.0.0", [], None, "null", False),
    ("0.0.0.0", [], "[", "null", False),
    ("0.0.0.0", [], None, "", True),
    ("0.0.0.0", ["null"], "gateway.test", "null", True),
]


@pytest.mark.parametrize(("bound", "cors", "host", "origin", "expected"), ORIGINS)
def test_origins(bound: str, cors: list[str], host: str | None, origin: str, expected: bool) -> None:
    assert served(BrowserPolicy(bound, cors=cors), host, origin) is expected


def test_the_refusal_of_an_origin_says_what_to_configure() -> None:
    with pytest.raises(Forbidden, match=r"'http://evil\.test' are not served; see listen\.cors"):
        BrowserPolicy("127.0.0.1").check(b"localhost", b"http://evil.test")


@pytest.mark.parametrize(
    ("cors", "origin", "expected"),
    [
        (["https://app.test"], b"https://app.test", True),
        (["https://app.test"], b"https://other.test", False),
        (["*"], b"https://other.test", True),
        ([], b"http://localhost", False),
    ],
)
def test_which_pages_may_read_answers(cors: list[str], origin: bytes, expected: bool) -> None:
    assert BrowserPolicy("127.0.0.1", cors=cors).allowed_origin(origin) is expected


# ---- for every page --------------------------------------------------------------------------------------------------

labels = st.text("abcxyz0123456789-", min_size=1, max_size=8)
domains = st.lists(labels, min_size=1, max_size=4).map(".".join)
ports = st.none() | st.integers(0, 65535)
authorities = st.tuples(domains | st.sampled_from(LOOPBACK_NAMES + FOREIGN_NAMES), ports).map(
    lambda pair: pair[0] if pair[1] is None else f"{pair[0]}:{pair[1]}"
)
texts = st.text(st.characters(max_codepoint=255), max_size=20)


@given(authorities | texts)
def test_a_page_elsewhere_never_reaches_a_loopback_listener(host: str) -> None:
    """Whatever the Host: rebinding a name makes it foreign, and a foreign page has a foreign Origin."""
    policy = BrowserPolicy("127.0.0.1")

    assert not served(policy, host, "http://evil.test")
    assert not served(policy, "evil.test", f"http://{host}")


@given(domains, ports)
def test_a_page_reaches_the_listener_that_it_came_from(name: str, port: int | None) -> None:
    host = name if port is None else f"{name}:{port}"

    assert served(BrowserPolicy("0.0.0.0"), host, f"https://{host}")


@given(st.lists(st.tuples(st.none() | authorities | texts, st.none() | texts), max_size=20))
def test_a_verdict_does_not_depend_on_those_before(pairs: list[tuple[str | None, str | None]]) -> None:
    policy = BrowserPolicy("127.0.0.1", allowed_hosts=["a"], cors=["b"])
    fresh = [served(BrowserPolicy("127.0.0.1", allowed_hosts=["a"], cors=["b"]), *pair) for pair in pairs]

    assert [served(policy, *pair) for pair in pairs] == fresh
    assert [served(policy, *pair) for pair in pairs] == fresh


def test_what_is_remembered_is_bounded() -> None:
    policy = BrowserPolicy("127.0.0.1")
    for n in range(5000):
        served(policy, "localhost", f"http://{n}.test")

    assert len(policy._verdicts) <= 256
