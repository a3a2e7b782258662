"""Shaking hands with a server: what we offer, what its answers mean, and which era it speaks.

Answers are read leniently (a server that does not name itself is still a server) but for the revision, without which
nothing can be said to it. Era detection follows the rule of MCP 2026-07-28, basic/lifecycle, "Backward compatibility":
only positive evidence makes a server modern.
"""

from __future__ import annotations

from typing import Final

import attrs
import msgspec
from msgspec import Raw

from mcpgateway import errors
from mcpgateway.errors import InvalidParams, ServerMisbehaved, ServerUnavailable
from mcpgateway.jsonrpc import Message, error_code, error_reply, members_of, raw_of
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LEGACY_REVISIONS, MODERN_REVISIONS, Era

_EMPTY: Final = Raw(b"{}")
_MODERN_CODES: Final = (errors.HEADER_MISMATCH, errors.MISSING_CAPABILITY, errors.UNSUPPORTED_VERSION)


class _Initialized(msgspec.Struct):
    revision: str = msgspec.field(name="protocolVersion")
    capabilities: Raw = _EMPTY
    info: Raw = msgspec.field(name="serverInfo", default=_EMPTY)


class _Meta(msgspec.Struct):
    info: Raw = msgspec.field(name=SERVER_INFO, default=_EMPTY)


class _Discovered(msgspec.Struct):
    revisions: list[str] = msgspec.field(name="supportedVersions")
    capabilities: Raw = _EMPTY
    meta: _Meta | None = msgspec.field(name="_meta", default=None)


class _Supported(msgspec.Struct):
    revisions: list[str] = msgspec.field(name="supported")


class _VersionError(msgspec.Struct):
    data: _Supported


_read_initialized = msgspec.json.Decoder(_Initialized).decode
_read_discovered = msgspec.json.Decoder(_Discovered).decode
_read_version_error = msgspec.json.Decoder(_VersionError).decode
_read_text = msgspec.json.Decoder(str).decode


def initialize_params(revision: str, capabilities: Raw, client_info: Raw) -> Raw:
    """The raw params of a legacy ``initialize``; both arguments are raw objects."""
    return raw_of({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": client_info})


def read_initialize(result: Raw, *, server: str, stateful: bool) -> Negotiated:
    """What an ``InitializeResult`` settles; ``stateful`` is the transport's to say.

    :raises ServerMisbehaved: not such a result, or a revision that is no legacy one we know
    """
    try:
        answer = _read_initialized(result)
    except msgspec.DecodeError as problem:
        raise ServerMisbehaved(server, f"answered initialize with something else: {problem}") from None
    if answer.revision not in LEGACY_REVISIONS:
        raise ServerMisbehaved(
            server, f"answered initialize with revision {answer.revision[:40]!r}, which this gateway does not speak"
        )
    name, version = _name_and_version(answer.info)
    return Negotiated(Era.LEGACY, answer.revision, result, _object(answer.capabilities), name, version, stateful)


def read_discover(result: Raw, *, server: str) -> Negotiated:
    """What a ``DiscoverResult`` settles: the latest modern revision that both speak.

    :raises ServerMisbehaved: not such a result, or no revision in common
    """
    try:
        answer = _read_discovered(result)
    except msgspec.DecodeError as problem:
        raise ServerMisbehaved(server, f"answered server/discover with something else: {problem}") from None
    revision = _latest_mutual(answer.revisions)
    if revision is None:
        raise ServerMisbehaved(server, "speaks no modern revision of MCP that this gateway speaks")
    name, version = _name_and_version(answer.meta.info if answer.meta is not None else _EMPTY)
    return Negotiated(Era.MODERN, revision, result, _object(answer.capabilities), name, version, stateful=False)


def _object(raw: Raw) -> Raw:
    return raw if bytes(raw)[:1] == b"{" else _EMPTY


def _name_and_version(info: Raw) -> tuple[str, str]:
    try:
        members = members_of(info)
    except InvalidParams:
        return "", ""
    return _text(members.get("name")), _text(members.get("version"))


def _text(raw: Raw | None) -> str:
    try:
        return "" if raw is None else _read_text(raw)
    except msgspec.DecodeError:
        return ""


def _latest_mutual(revisions: list[str]) -> str | None:
    mutual = [revision for revision in MODERN_REVISIONS if revision in revisions]
    return mutual[-1] if mutual else None


@attrs.frozen
class Verdict:
    """What the answer to a ``server/discover`` probe says about a server."""

    modern: bool
    retry: str | None = None
    """Probe again, once, with this revision: the server refused ours and named one that both speak."""


_LEGACY: Final = Verdict(modern=False)


def judge_probe(message: Message | None, status: int | None = None) -> Verdict:
    """Tell a server's era from its answer to ``server/discover``.

    ``message`` is ``None`` where no JSON-RPC message came back: a deadline passed, or the body was something else.
    ``status`` is the HTTP status, where there is one. A server that discovers but lists legacy revisions only is
    legacy; so is one that refuses the revision and names legacy ones only.
    """
    if message is None:
        return _LEGACY
    if message.result is not None:
        return _judge_result(message.result, status)
    code = error_code(message)
    if code == errors.UNSUPPORTED_VERSION:
        return _judge_refusal(message)
    return Verdict(modern=code in _MODERN_CODES)


def _judge_result(result: Raw, status: int | None) -> Verdict:
    if status is not None and not 200 <= status < 300:
        return _LEGACY
    try:
        return Verdict(modern=_latest_mutual(_read_discovered(result).revisions) is not None)
    except msgspec.DecodeError:
        return _LEGACY


def _judge_refusal(message: Message) -> Verdict:
    try:
        supported = _read_version_error(message.error or b"").data.revisions
    except msgspec.DecodeError:
        return Verdict(modern=True)
    if supported and all(revision in LEGACY_REVISIONS for revision in supported):
        return _LEGACY
    return Verdict(modern=True, retry=_latest_mutual(supported))


def is_modern_only(answer: Message, status: int | None = None) -> bool:
    """Whether an ``initialize`` was refused because it is not spoken: by code, or for want of a modern envelope."""
    if judge_probe(answer, status).modern:
        return True
    return error_code(answer) == errors.METHOD_NOT_FOUND or b"_meta" in bytes(answer.error or b"")


def refused(server: str, method: str, answer: Message) -> ServerUnavailable:
    """The failure of a handshake that a server answered with an error; the error itself is its cause."""
    reply = error_reply(answer)
    problem = ServerUnavailable(server, f"refused {method} with error {reply.reply_code}: {reply.message[:200]!r}")
    problem.__cause__ = reply
    return problem
