"""What is taken out of payloads before they are logged, and what is not."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config.masking import MASK
from mcpgateway.config.secrets import is_secret_name
from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import raw_of, value_of
from mcpgateway.recording.redaction import DEPTH, READABLE, Redactor
from tests.strategies import json_values, planted, secret_texts

NOTHING = Redactor()


@pytest.mark.requirement("feature.104", "6.logs")
@given(secret_texts.flatmap(lambda secret: st.tuples(st.just(secret), planted(secret))))
def test_a_configured_secret_is_never_shown_wherever_it_stands(case: tuple[str, JSON]) -> None:
    secret, value = case
    for payload in value, json.dumps(value), json.dumps(json.dumps(value)):
        shown = Redactor([secret]).payload(raw_of(payload), 10_000)
        assert secret not in shown
        assert json.dumps(secret)[1:-1] not in shown


@given(json_values)
def test_a_payload_is_one_line_of_bounded_length(value: JSON) -> None:
    shown = NOTHING.payload(raw_of(value), 20)

    assert len(shown.splitlines()) <= 1
    assert len(shown) <= 20 + len("… (123456789 characters)")


@given(
    st.sampled_from(
        ["token", "apiKey", "X-Api-Key", "client_secret", "Password", "AUTHORIZATION", "set-cookie", "pin"]
    ),
    json_values.filter(lambda value: value is not None and not isinstance(value, bool)),
)
def test_what_stands_under_a_secret_name_is_not_shown(name: str, value: JSON) -> None:
    assert NOTHING.value({"a": [{name: value}]}) == {"a": [{name: MASK}]}


words = st.text("abxyz 0123äöü", max_size=12)
harmless = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), words),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(harmless)
def test_what_looks_like_no_secret_is_shown_as_it_is(value: JSON) -> None:
    assert value_of(NOTHING.payload(raw_of(value), 10_000).encode()) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token=abc def", "token=*** def"),
        ('{"api_key": "a \\"b,c", "n": 1}', '{"api_key": "***", "n": 1}'),
        ('{\\"password\\": \\"a\\\\\\"b\\"}', '{\\"password\\": \\"***\\"}'),
        ("{'token': 'a b', 'c': 1}", "{'token': '***', 'c': 1}"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ('{"Authorization": "Basic Zm9v"}', '{"Authorization": "***"}'),
        ("it said Bearer eyJhbGciOi.J9 there", "it said Bearer *** there"),
        ("wss://api.example/mcp/?token=eyJ&x=1", "wss://api.example/mcp/?token=***&x=1"),
        ("https://user:pass@host/path", "https://***@host/path"),
        ('token="never closed', 'token="***'),
        ("max_tokens=100", "max_tokens=100"),
        ("the token was sent", "the token was sent"),
        ("https://host/a@b", "https://host/a@b"),
    ],
)
def test_secrets_within_a_text(text: str, shown: str) -> None:
    assert NOTHING.text(text) == shown


def test_counts_of_tokens_and_flags_are_no_secrets() -> None:
    value: JSON = {"max_tokens": 100, "use_password": True, "token": None, "pin": 1234}

    assert NOTHING.value(value) == {"max_tokens": 100, "use_password": True, "token": None, "pin": MASK}


def test_the_longest_secret_goes_first_and_each_in_every_spelling() -> None:
    redactor = Redactor(["hunter22", "hunter22-extra", 'sl"ash/ed key', "4711471147"])

    assert redactor.text("hunter22-extra hunter22") == f"{MASK} {MASK}"
    assert redactor.text('sl\\"ash/ed key and sl%22ash%2Fed%20key') == f"{MASK} and {MASK}"
    assert redactor.value([14711471147, 4711471147.5, 4711]) == [MASK, MASK, 4711]
    assert Redactor(["27.182818"]).value([27.182818, 2.7]) == [MASK, 2.7]
    assert redactor.value({"code": 4711471147, 'sl"ash/ed key': 1}) == {"code": MASK, MASK: 1}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"[1e400]", "(7 bytes that cannot be read)"),
        (b'{"a": ', "(6 bytes that cannot be read)"),
        (b"[" * 100_000 + b"]" * 100_000, "(200000 bytes that cannot be read)"),
        (b'"' + b"x" * READABLE + b'"', f"({READABLE + 2} bytes)"),
    ],
)
def test_what_cannot_be_read_or_is_very_long_is_told_by_its_size(raw: bytes, shown: str) -> None:
    assert NOTHING.payload(raw, 100) == shown


def test_deep_nesting_is_left_out() -> None:
    value: JSON = "deepest"
    for _ in range(DEPTH + 1):
        value = [value]

    assert "deepest" not in NOTHING.payload(raw_of(value), 10_000)


def test_a_secret_that_is_no_text_is_no_trouble() -> None:
    assert Redactor(["\udc80secret"]).text("nothing") == "nothing"


@pytest.mark.parametrize(
    "hostile",
    ["a", "a.", "token= ", 'token="', 'token="\\', "token=\\", "bearer ", "a://", "-", "key-", "api-", "tokentoken"],
)
def test_hostile_text_takes_no_longer_than_its_length(hostile: str) -> None:
    """Seconds of this process's own time; what is quadratic takes minutes."""
    began = time.process_time()
    NOTHING.text(hostile * (READABLE // len(hostile)))

    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "name", ["tokens_left", "TOKEN", "api-key", "privateKey", "db_password", "cookie2", "jwt", "auth"]
)
def test_names_that_say_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["key", "author", "path", "name", "passive", "pinned", "signature"])
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_name(name)
