"""Whether an answer fits its question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import raw_of
from mcpgateway.protocol.methods import CLIENT_CAPABILITIES
from mcpgateway.protocol.translation.shapes import check
from tests.protocol.translation import oracle
from tests.strategies import json_objects, scalars

CONTENT = st.dictionaries(
    st.text(max_size=3), scalars | st.lists(st.text(max_size=3), max_size=2) | json_objects | st.just([1]), max_size=3
)
ELICITED = st.fixed_dictionaries(
    {}, optional={"action": st.sampled_from(["accept", "decline", "cancel", "maybe", 7]), "content": CONTENT | scalars}
)
BLOCK: JSON = {"type": "text", "text": "x"}
SAMPLED = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", None]),
        "model": st.sampled_from(["m", 7, None]),
        "content": st.sampled_from([BLOCK, [BLOCK, BLOCK], [], [7], {}, {"type": 7}, "x", None]),
        "stopReason": st.just("endTurn"),
    },
)
LISTED = st.fixed_dictionaries(
    {},
    optional={
        "roots": st.lists(st.sampled_from([{"uri": "file:///a"}, {"uri": 7}, {}, 7, None]), max_size=2) | scalars
    },
)


def fits(method: str, answer: Raw) -> bool:
    try:
        check(method, answer)
    except InvalidParams:
        return False
    return True


@given(
    st.one_of(
        ELICITED.map(lambda answer: ("elicitation/create", answer)),
        SAMPLED.map(lambda answer: ("sampling/createMessage", answer)),
        LISTED.map(lambda answer: ("roots/list", answer)),
    )
)
def test_an_answer_fits_where_the_reference_takes_it(case: tuple[str, dict[str, JSON]]) -> None:
    method, answer = case

    assert fits(method, raw_of(answer)) is oracle.takes_answer(method, raw_of(answer))


@pytest.mark.parametrize("method", CLIENT_CAPABILITIES)
@pytest.mark.parametrize("raw", [b"null", b"[]", b"7", b"{}", b'{"content":{"a":{}}}'])
def test_what_is_no_answer_fits_nothing(method: str, raw: bytes) -> None:
    assert not fits(method, Raw(raw))


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("elicitation/create", b'{"action":"accept","content":{"n":1E400,"m":12345678901234567890123}}'),
        ("elicitation/create", b'{"action":"decline","x":[{}],"_meta":{}}'),
        ("elicitation/create", b'{"action":"\\u0061ccept","content":null}'),
        ("roots/list", b'{"roots":[{"uri":"x:/","name":"n"}]}'),
        ("sampling/createMessage", b'{"role":"assistant","model":"m","content":{"type":"hologram"}}'),
    ],
)
def test_what_is_in_an_answer_is_the_servers_to_judge(method: str, raw: bytes) -> None:
    check(method, Raw(raw))


def test_a_refusal_repeats_nothing_of_the_answer() -> None:
    with pytest.raises(InvalidParams) as refusal:
        check("elicitation/create", raw_of({"action": "accept", "content": {"password": {"is": "hunter2"}}}))

    assert "hunter2" not in refusal.value.message
    assert "password" not in refusal.value.message
