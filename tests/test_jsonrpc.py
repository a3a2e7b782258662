"""Envelopes keep what they do not touch, to the byte, and refuse what is none with two errors only."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import (
    INTERNAL_ERROR,
    InvalidParams,
    InvalidRequest,
    ParseError,
    ServerTimeout,
)
from tests.strategies import Frame, frames, ids, json_objects, json_texts, requests

# ---- what comes in goes out ------------------------------------------------------------------------------------------


@given(frames)
def test_a_message_keeps_its_members_their_bytes_and_their_order(frame: Frame) -> None:
    message = jsonrpc.decode(frame.data)

    members = [(json.loads(name), value) for name, value in frame.members]
    assert [(name, bytes(value)) for name, value in message.members.items()] == members
    again = jsonrpc.decode(message.encode())
    assert list(again.members.items()) == list(message.members.items())


@given(frames)
def test_a_message_is_exactly_one_of_three_things(frame: Frame) -> None:
    message = jsonrpc.decode(frame.data)

    assert (message.id, message.method) == (frame.id, frame.method)
    sorts = (message.is_request, message.is_notification, message.is_response)
    assert sorts == (
        frame.method is not None and frame.id is not None,
        frame.method is not None and frame.id is None,
        frame.method is None,
    )


@given(frames)
def test_parts_are_the_raw_members(frame: Frame) -> None:
    message = jsonrpc.decode(frame.data)

    members = {json.loads(name): value for name, value in frame.members}
    for part, name in ((message.params, "params"), (message.result, "result"), (message.error, "error")):
        assert (None if part is None else bytes(part)) == members.get(name)


@given(requests, ids)
def test_another_id_changes_nothing_else(frame: Frame, id: bytes) -> None:
    message = jsonrpc.decode(frame.data)

    changed = jsonrpc.decode(message.encode_as(id))

    assert changed.id == id
    assert list(changed.members) == list(message.members)
    assert {**changed.members, "id": None} == {**message.members, "id": None}
    assert message.id == frame.id
    assert changed.encode_as(frame.id or b"") == message.encode()


@given(ids, ids)
def test_ids_are_equal_only_as_bytes(one: bytes, other: bytes) -> None:
    messages = [jsonrpc.decode(b'{"jsonrpc":"2.0","id":%s,"method":"m"}' % id) for id in (one, other)]
    assert (messages[0].id == messages[1].id) == (one == other)


@given(frames, json_texts())
def test_replace_sets_in_place_adds_at_the_end_and_removes(frame: Frame, value: bytes) -> None:
    message = jsonrpc.decode(frame.data)
    before = dict(message.members)

    changed = message.replace(params=Raw(value), unheard_of=Raw(value), jsonrpc=None)

    kept = [name for name in before if name != "jsonrpc"]
    assert list(changed.members) == [*kept, *(name for name in ("params", "unheard_of") if name not in before)]
    assert all(changed.members[name] == before[name] for name in kept if name != "params")
    assert bytes(changed.members["params"]) == bytes(changed.members["unheard_of"]) == value
    assert message.members == before
    assert (changed.id, changed.method) == (message.id, message.method)


def test_replace_of_the_id_is_seen() -> None:
    message = jsonrpc.request(b"7", "ping")
    assert message.replace(id=Raw(b'"7"')).id == b'"7"'
    assert message.replace(id=None).is_notification


# ---- what is refused -------------------------------------------------------------------------------------------------

DEEP = 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b'{"jsonrpc":"2.0","id":1,"method":"m"}x',
        b'{"jsonrpc":"2.0","id":01,"method":"m"}',
        b'{"jsonrpc":"2.0","id":-,"method":"m"}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\q"}}',
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\xff"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\xed\xa0\x80"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":"\\udc00","method":"m"}',
        b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":' * DEEP,
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    ],
    ids=lambda data: repr(data[:60]),
)
def test_what_is_not_json_is_a_parse_error(data: bytes) -> None:
    with pytest.raises(ParseError):
        jsonrpc.decode(data)


@pytest.mark.parametrize(
    ("data", "text", "id"),
    [
        (b"null", "not an object", None),
        (b'"ping"', "not an object", None),
        (b" [ ]", "an array; batches exist in revision 2025-03-26 only", None),
        (b"[" * DEEP, "an array", None),
        (b"{}", '"jsonrpc" must be "2.0"', None),
        (b'{"jsonrpc":"1.0","id":5,"method":"m"}', '"jsonrpc" must be "2.0"', b"5"),
        (b'{"jsonrpc":2.0,"id":5,"method":"m"}', '"jsonrpc" must be "2.0"', b"5"),
        (b'{"jsonrpc":"2.0","id":null,"method":"m"}', '"id" must be a string or a number', None),
        (b'{"jsonrpc":"2.0","id":true,"method":"m"}', '"id" must be a string or a number', None),
        (b'{"jsonrpc":"2.0","id":[1],"result":{}}', '"id" must be a string or a number', None),
        (b'{"jsonrpc":"2.0","id":{},"method":"m"}', '"id" must be a string or a number', None),
        (b'{"jsonrpc":"2.0","id":"x"}', 'exactly one of "result" and "error"', b'"x"'),
        (b'{"jsonrpc":"2.0","id":"x","result":1,"error":{}}', 'exactly one of "result" and "error"', b'"x"'),
        (b'{"jsonrpc":"2.0","result":1}', 'a result needs an "id"', None),
        (b'{"jsonrpc":"2.0","id":1.0,"method":7}', '"method" must be a string', b"1.0"),
        (b'{"jsonrpc":"2.0","id":1,"method":null}', '"method" must be a string', b"1"),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}', '"params" must be an object', b"1"),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}', '"params" must be an object', b"1"),
    ],
    ids=lambda value: repr(value[:50]) if isinstance(value, bytes) else "",
)
def test_json_that_is_no_message_is_an_invalid_request_with_its_id(data: bytes, text: str, id: bytes | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        jsonrpc.decode(data)
    assert text in caught.value.message
    assert caught.value.request_id == id
    assert jsonrpc.error(None, caught.value).id == (b"null" if id is None else id)


@given(st.binary(max_size=40) | json_texts() | frames.map(lambda frame: frame.data), st.data())
def test_junk_gives_two_errors_and_nothing_else(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    junk = draw.draw(st.binary(max_size=3))
    try:
        message = jsonrpc.decode(data[:cut] + junk + data[cut:])
    except (ParseError, InvalidRequest):
        return
    assert jsonrpc.decode(message.encode()).members == message.members


def test_params_may_be_null() -> None:
    assert jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"method":"m","params":null}').params == Raw(b"null")


def test_an_error_that_answers_no_id_is_a_response() -> None:
    for id in (b"", b'"id":null,'):
        assert jsonrpc.decode(b'{"jsonrpc":"2.0",%s"error":{"code":-32700}}' % id).is_response


# ---- batches ---------------------------------------------------------------------------------------------------------


@given(st.lists(frames, min_size=1, max_size=4))
def test_a_batch_is_split_into_its_bytes(batch: list[Frame]) -> None:
    data = b" [" + b" ,".join(frame.data for frame in batch) + b"]\n"
    assert jsonrpc.decode_batch(data) == [frame.data for frame in batch]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1", b"[\xff]", b"[" * DEEP, b"[" + b"[" * DEEP + b"]" * DEEP + b"]"])
def test_what_is_no_batch_is_a_parse_error(data: bytes) -> None:
    with pytest.raises(ParseError):
        jsonrpc.decode_batch(data)


def test_an_empty_batch_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest):
        jsonrpc.decode_batch(b"[ ]")


# ---- parts -----------------------------------------------------------------------------------------------------------


@given(json_texts(json_objects))
def test_members_of_an_object_keep_their_values(text: bytes) -> None:
    members = jsonrpc.members_of(Raw(text))
    assert {name: jsonrpc.value_of(value) for name, value in members.items()} == json.loads(text)


@given(json_objects)
def test_a_value_survives_being_raw(value: dict[str, object]) -> None:
    assert jsonrpc.value_of(jsonrpc.raw_of(value)) == value


@pytest.mark.parametrize("raw", [b"1E400", b'{"a":[-1e999]}', b'"\\ud800"', b"[" * DEEP])
def test_what_has_no_value_is_refused_and_nothing_else_happens(raw: bytes) -> None:
    with pytest.raises(InvalidParams, match="cannot be read"):
        jsonrpc.value_of(raw)


def test_an_error_whose_code_has_no_value_is_an_error_without_a_code() -> None:
    message = jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"error":{"code":1e400,"message":"no"}}')

    assert jsonrpc.error_code(message) is None
    assert jsonrpc.error_reply(message).reply_code == 0


def test_nothing_has_no_members() -> None:
    assert jsonrpc.members_of(None) == jsonrpc.members_of(b"null") == jsonrpc.members_of(Raw(b"null")) == {}


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"", b"{", b'{"a":' * DEEP])
def test_members_of_anything_else_are_invalid_params(raw: bytes) -> None:
    with pytest.raises(InvalidParams):
        jsonrpc.members_of(raw)


@pytest.mark.parametrize("raw", [b"1e999", b"1" * 4301, b"[" * DEEP + b"]" * DEEP])
def test_a_value_that_cannot_be_held_is_invalid_params(raw: bytes) -> None:
    with pytest.raises(InvalidParams):
        jsonrpc.value_of(raw)


@pytest.mark.parametrize("code", [b"1e999", b"1" * 4301])
def test_an_error_whose_code_cannot_be_held_has_none(code: bytes) -> None:
    message = jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"error":{"code":%b,"message":"no"}}' % code)

    assert jsonrpc.error_code(message) is None
    assert jsonrpc.error_reply(message).reply_code == 0


# ---- our own ---------------------------------------------------------------------------------------------------------


def test_our_own_messages() -> None:
    assert jsonrpc.request(b'"a"', "ping").encode() == b'{"jsonrpc":"2.0","id":"a","method":"ping"}'
    assert (
        jsonrpc.notification("n", {"raw": Raw(b" 1.0 ")}).encode()
        == b'{"jsonrpc":"2.0","method":"n","params":{"raw": 1.0 }}'
    )
    assert jsonrpc.result(b"1.0", Raw(b"{}")).encode() == b'{"jsonrpc":"2.0","id":1.0,"result":{}}'


def test_an_error_response_carries_the_failure() -> None:
    message = jsonrpc.error(b"7", ServerTimeout("time", "no answer in 60 s", data={"seconds": 60}))
    assert message.id == b"7"
    assert jsonrpc.error_code(message) == INTERNAL_ERROR
    assert json.loads(message.encode())["error"] == {
        "code": -32603,
        "message": "server 'time': no answer in 60 s",
        "data": {"server": "time", "seconds": 60},
    }
    assert b"data" not in jsonrpc.error(b"7", InvalidRequest("no")).encode()


@given(frames)
def test_what_we_make_we_also_read(frame: Frame) -> None:
    id, method = frame.id or b"0", frame.method or "m"
    for message in (jsonrpc.request(id, method, {"a": 1}), jsonrpc.notification(method), jsonrpc.result(id, None)):
        again = jsonrpc.decode(message.encode())
        assert (again.members, again.id, again.method) == (message.members, message.id, message.method)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (b'{"code":-32601,"message":"x"}', -32601),
        (b'{"code":-32601.0}', None),
        (b'{"code":true}', None),
        (b'{"code":"-32601"}', None),
        (b"{}", None),
        (b"[]", None),
        (b"null", None),
    ],
)
def test_error_code(error: bytes, code: int | None) -> None:
    assert jsonrpc.error_code(jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"error":%s}' % error)) == code


def test_a_result_has_no_error_code() -> None:
    assert jsonrpc.error_code(jsonrpc.result(b"1", {"code": 5})) is None


def test_repr_names_the_sort_and_the_id() -> None:
    assert repr(jsonrpc.request(b"7", "ping")) == "<Message ping id=b'7'>"
    assert repr(jsonrpc.result(b"7", {})) == "<Message result id=b'7'>"
    assert repr(jsonrpc.error(None, InvalidRequest("x"))) == "<Message error id=b'null'>"
