"""Which proxy leads where: what is configured, and what the environment says, as `urllib.request` reads it."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcpgateway.config.model import Secret
from mcpgateway.config.proxies import Proxy, is_bypassed, proxies_of, proxy_for

CORP = "http://me:hunter2@proxy.corp:3128"


def found(url: str, configured: str | None = None, **environ: str) -> tuple[str, str] | None:
    proxy = proxy_for(url, None if configured is None else Secret(configured), environ)
    return None if proxy is None else (proxy.url.reveal(), proxy.source)


CASES: dict[str, tuple[str, str | None, dict[str, str], tuple[str, str] | None]] = {
    "nobody says": ("https://a.example/", None, {}, None),
    "https": ("https://a.example/", None, {"HTTPS_PROXY": CORP}, (CORP, "HTTPS_PROXY")),
    "http": ("http://a.example/", None, {"HTTPS_PROXY": CORP}, None),
    "small letters": ("http://a.example/", None, {"http_proxy": CORP, "HTTP_PROXY": "x"}, (CORP, "HTTP_PROXY")),
    "small and empty": ("http://a.example/", None, {"http_proxy": "", "HTTP_PROXY": CORP}, None),
    "all": ("https://a.example/", None, {"ALL_PROXY": CORP}, (CORP, "ALL_PROXY")),
    "all and one": ("https://a.example/", None, {"ALL_PROXY": "x", "HTTPS_PROXY": CORP}, (CORP, "HTTPS_PROXY")),
    "without a scheme": ("https://a.example/", None, {"HTTPS_PROXY": "p:3128"}, ("http://p:3128", "HTTPS_PROXY")),
    "excepted": ("https://a.example/", None, {"HTTPS_PROXY": CORP, "NO_PROXY": "b.example, .example"}, None),
    "excepted by port": ("https://a:81/", None, {"HTTPS_PROXY": CORP, "NO_PROXY": "a:81"}, None),
    "another port": ("https://a:82/", None, {"HTTPS_PROXY": CORP, "NO_PROXY": "a:81"}, (CORP, "HTTPS_PROXY")),
    "everything excepted": ("https://a.example/", None, {"HTTPS_PROXY": CORP, "no_proxy": "*"}, None),
    "a name that ends so": (
        "https://notexample/",
        None,
        {"ALL_PROXY": CORP, "NO_PROXY": "example"},
        (CORP, "ALL_PROXY"),
    ),
    "CGI": ("http://a.example/", None, {"HTTP_PROXY": CORP, "REQUEST_METHOD": "GET"}, None),
    "localhost": ("http://localhost:8080/", None, {"ALL_PROXY": CORP}, None),
    "127.0.0.1": ("https://127.0.0.1/", None, {"ALL_PROXY": CORP}, None),
    "::1": ("http://[::1]:8080/", None, {"ALL_PROXY": CORP}, None),
    "configured": ("https://a.example/", CORP, {"HTTPS_PROXY": "x", "NO_PROXY": "*"}, (CORP, "'http.proxy'")),
    "configured for this machine": ("http://127.0.0.1/", CORP, {}, (CORP, "'http.proxy'")),
    "switched off": ("https://a.example/", "", {"HTTPS_PROXY": CORP}, None),
    "none": ("https://a.example/", "none", {"HTTPS_PROXY": CORP}, None),
}


@pytest.mark.requirement("4.http.cold")
@pytest.mark.parametrize("case", CASES)
def test_which_proxy(case: str) -> None:
    url, configured, environ, expected = CASES[case]
    assert found(url, configured, **environ) == expected


def test_only_the_place_of_a_proxy_may_be_shown() -> None:
    proxy = Proxy(Secret(CORP), "HTTPS_PROXY")
    assert proxy.place == "proxy.corp:3128"
    assert "hunter2" not in repr(proxy)


# ---- against urllib --------------------------------------------------------------------------------------------------


@contextmanager
def environment(environ: dict[str, str]) -> Iterator[None]:
    """The environment of this process, for as long as the block runs."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


NAMES = st.sampled_from(
    "HTTP_PROXY http_proxy Http_Proxy HTTP_proxy HTTPS_PROXY https_proxy ALL_PROXY all_proxy "
    "NO_PROXY no_proxy _proxy _PROXY PROXY FTP_PROXY REQUEST_METHOD HOME".split()
)


@pytest.mark.requirement("4.http.cold")
@given(st.dictionaries(NAMES, st.sampled_from(["", "http://a", "b:3128", "*"])))
def test_the_variables_are_read_as_urllib_reads_them(environ: dict[str, str]) -> None:
    with environment(environ):
        assert proxies_of(environ) == urllib.request.getproxies_environment()


HOSTS = st.from_regex(r"\A(\[::1\]|[aB]{1,2}(\.[aB]{1,2}){0,2})(:[0-9]{0,2})?\Z")
EXCEPTIONS = st.lists(st.one_of(HOSTS, HOSTS.map(lambda host: f".{host}"), st.sampled_from([" ", "*", ".", ""])))


@pytest.mark.requirement("4.http.cold")
@given(HOSTS, EXCEPTIONS.map(",".join))
@example("a", "*")
def test_exceptions_are_read_as_urllib_reads_them(host: str, no_proxy: str) -> None:
    bypass = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed
    assert is_bypassed(host, no_proxy) == bool(bypass(host, {"no": no_proxy}))
