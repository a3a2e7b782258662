"""What the other era is told of a peer's capabilities, and what a question needs of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from msgspec import Raw

from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.capabilities import capability_key
from mcpgateway.protocol.translation import capabilities as subject
from mcpgateway.protocol.translation.capabilities import TASKS_EXTENSION, missing, required
from tests.protocol.translation import oracle
from tests.strategies import unknown_members

CLIENTS: list[tuple[JSON, JSON]] = [
    ({}, {}),
    ({"elicitation": {}}, {"elicitation": {}}),
    ({"elicitation": {"form": {}, "url": {}}}, {"elicitation": {"form": {}, "url": {}}}),
    ({"roots": {"listChanged": True}}, {"roots": {}}),
    ({"roots": {"listChanged": False, "x": 1.0}}, {"roots": {"x": 1.0}}),
    ({"roots": True}, {"roots": True}),
    ({"sampling": {"tools": {}}, "tasks": {"list": {}}}, {"sampling": {"tools": {}}}),
    ({"extensions": {TASKS_EXTENSION: {}}}, {}),
    ({"extensions": {TASKS_EXTENSION: {}, "com.example/ui": {}}}, {"extensions": {"com.example/ui": {}}}),
    ({"extensions": {}, "experimental": {"x": {}}}, {"extensions": {}, "experimental": {"x": {}}}),
    (None, {}),
]


@pytest.mark.parametrize(("declared", "told"), CLIENTS)
def test_a_client_is_told_of_without_tasks_and_without_changing_roots(declared: JSON, told: JSON) -> None:
    crossed = subject.of_client(raw_of(declared))

    assert value_of(crossed) == told
    assert subject.of_client(crossed) == crossed
    if told != {"roots": True}:
        oracle.capabilities(crossed)


@given(unknown_members)
def test_what_nobody_knows_of_a_client_stays_to_the_byte(unknown: dict[str, Raw]) -> None:
    declared = raw_of({"tasks": {}, **unknown, "roots": raw_of({**unknown, "listChanged": True})})

    crossed = members_of(subject.of_client(declared))

    assert {name: crossed[name] for name in unknown} == unknown
    assert crossed.keys() == unknown.keys() | {"roots"}
    assert members_of(crossed["roots"]) == unknown


def test_a_legacy_session_is_one_for_all_that_declare_the_same() -> None:
    one = raw_of({"experimental": {"a": {}}, "elicitation": {"url": {}, "form": {}}, "roots": {"listChanged": True}})
    two = Raw(
        b'{ "roots" : {} , "elicitation" : {"form":{},"url":{}}, "extensions":{"%b":{}}}' % TASKS_EXTENSION.encode()
    )

    sets = [subject.of_session(each) for each in (one, two)]

    assert capability_key(sets[0]) == capability_key(sets[1]) == b'{"elicitation":{"form":{},"url":{}},"roots":{}}'


@pytest.mark.parametrize(
    ("declared", "legacy", "modern"),
    [
        *[({"tools": {"listChanged": True}},) * 3, ({"logging": {}, "completions": {}},) * 3],
        ({"resources": {"subscribe": True}, "tasks": {}}, *[{"resources": {"subscribe": True}}] * 2),
        ({"extensions": {TASKS_EXTENSION: {}}, "x": 1}, {"x": 1}, {"x": 1}),
        ({"extensions": {TASKS_EXTENSION: {}, "e": {}}}, {}, {"extensions": {"e": {}}}),
    ],
)
def test_a_server_is_told_of_without_tasks_and_to_legacy_clients_without_extensions(
    declared: JSON, legacy: JSON, modern: JSON
) -> None:
    assert value_of(subject.of_modern_server(raw_of(declared))) == legacy
    assert value_of(subject.of_legacy_server(raw_of(declared))) == modern


FORM: dict[str, JSON] = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
URL: JSON = {"mode": "url", "message": "?", "url": "https://e.example/"}
SAMPLE: dict[str, JSON] = {"messages": [], "maxTokens": 1}


@pytest.mark.parametrize(
    ("method", "params", "declared", "needs"),
    [
        ("elicitation/create", FORM, {"elicitation": {}}, None),
        ("elicitation/create", FORM, {"elicitation": {"form": {}}}, None),
        ("elicitation/create", {**FORM, "mode": "form"}, {"elicitation": {}}, None),
        ("elicitation/create", FORM, {"elicitation": {"url": {}}}, "elicitation.form"),
        ("elicitation/create", FORM, {"sampling": {}}, "elicitation"),
        ("elicitation/create", FORM, {"elicitation": None}, "elicitation"),
        ("elicitation/create", URL, {"elicitation": {}}, "elicitation.url"),
        ("elicitation/create", URL, {"elicitation": {"form": {}}}, "elicitation.url"),
        ("elicitation/create", URL, {"elicitation": {"url": {}}}, None),
        ("elicitation/create", {**FORM, "mode": "voice"}, {"elicitation": {}}, "elicitation.voice"),
        ("sampling/createMessage", SAMPLE, {"sampling": {}}, None),
        ("sampling/createMessage", SAMPLE, {"elicitation": {}}, "sampling"),
        ("sampling/createMessage", {**SAMPLE, "tools": []}, {"sampling": {}}, "sampling.tools"),
        ("sampling/createMessage", {**SAMPLE, "toolChoice": {}}, {"sampling": {"context": {}}}, "sampling.tools"),
        ("sampling/createMessage", {**SAMPLE, "tools": []}, {"sampling": {"tools": {}}}, None),
        ("sampling/createMessage", {**SAMPLE, "tools": None}, {"sampling": {}}, None),
        ("roots/list", None, {"roots": {}}, None),
        ("roots/list", None, {}, "roots"),
        ("tasks/get", {"taskId": "1"}, {"roots": {}, "tasks": {}}, "tasks/get"),
    ],
)
def test_what_a_question_needs_that_was_not_declared(
    method: str, params: JSON, declared: JSON, needs: str | None
) -> None:
    assert missing(method, raw_of(params), raw_of(declared)) == needs


def test_what_is_required_reads_as_it_is_declared() -> None:
    assert required("elicitation.url") == {"elicitation": {"url": {}}}
    assert required("roots") == {"roots": {}}
    assert missing("elicitation/create", raw_of(URL), raw_of(required("elicitation.url"))) is None


@pytest.mark.parametrize("raw", [b"[]", b"7", b'"x"'])
def test_capabilities_that_are_no_object_are_invalid_params(raw: bytes) -> None:
    for function in (
        subject.of_client,
        subject.of_session,
        subject.of_modern_server,
        subject.of_legacy_server,
        lambda capabilities: missing("roots/list", None, capabilities),
    ):
        with pytest.raises(InvalidParams):
            function(Raw(raw))
