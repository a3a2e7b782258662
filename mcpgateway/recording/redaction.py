"""JSON as a log may show it: one line, without secrets, of bounded length. Pure.

A secret is what the operator configured as one, wherever it turns up, and what stands under a name that says so
(``password``, ``apiKey``), also inside a text: ``token=…`` in a URL, ``"api_key": "…"`` in JSON that is a string, an
``Authorization`` header. Too much taken out is a nuisance, too little is a leak: so what looks like a secret is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import quote

from mcpgateway.config.masking import MASK
from mcpgateway.config.secrets import WORD, is_secret_name
from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import encode, value_of
from mcpgateway.recording.lines import escaped, shortened

READABLE: Final = 256 * 1024
"""Bytes from which on a payload is not read at all, and so not shown: it would hold up everybody else."""
DEPTH: Final = 40
"""Levels of nesting that are shown."""

# A name begins where no other goes on, and what may be followed by something else is bounded: whatever others send, a
# megabyte takes 0.3 s at most.
_NAME: Final = rf"(?<![\w-])[\w-]{{0,80}}?(?:{WORD})[\w-]{{0,80}}"
_ASSIGNED: Final = re.compile(
    rf"""(?P<name>{_NAME}\\{{0,8}}["']?\s{{0,8}}[:=]\s{{0,8}})"""  # api_key=   "apiKey":   X-Api-Key:
    r"""(?:(?P<quote>\\{0,8}["'])(?:(?!(?<!\\)(?P=quote)).)*(?P<end>(?P=quote))?"""
    r"""|(?P<scheme>\\{0,8}["']?(?:bearer|basic|digest|token)\s{1,8})?(?P<value>[^\s"'\\&,;<>{}\[\]]+))""",
    re.IGNORECASE | re.DOTALL,
)
_NUMBER: Final = re.compile(r"[0-9.eE+-]+")
"""A secret that may stand within a number."""
_SCHEME: Final = re.compile(r"\b(?P<scheme>(?:bearer|basic)\s{1,8})(?P<value>[\w.~+/=-]{8,})", re.IGNORECASE)
_USER: Final = re.compile(r"(?P<scheme>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,20}://)[^\s/@\"']{1,512}@", re.IGNORECASE)


class Redactor:
    """Takes secrets out. ``secrets`` are those that are known; the longest go first, for one may be part of another."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self._secrets = sorted(forms, key=len, reverse=True)
        self._numbers = [form for form in self._secrets if _NUMBER.fullmatch(form)]

    def text(self, text: str) -> str:
        """A text without secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        text = _ASSIGNED.sub(_assigned, text)
        text = _SCHEME.sub(lambda found: f"{found['scheme']}{MASK}", text)
        return _USER.sub(lambda found: f"{found['scheme']}{MASK}@", text)

    def value(self, value: JSON, depth: int = DEPTH) -> JSON:
        """A JSON value without secrets; what lies deeper than ``depth`` is left out."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict | list) and not depth:
            return "…"
        if isinstance(value, dict):
            return {
                self.text(name): MASK if _is_kept(name, each) else self.value(each, depth - 1)
                for name, each in value.items()
            }
        if isinstance(value, list):
            return [self.value(each, depth - 1) for each in value]
        if self._numbers and any(form in encode(value).decode() for form in self._numbers):
            return MASK
        return value

    def payload(self, raw: bytes | memoryview, limit: int) -> str:
        """Raw JSON as the log shows it: at most ``limit`` characters, and how many there were where that is not all."""
        size = len(raw)
        if size > READABLE:
            return f"({size} bytes)"
        try:
            value = self.value(value_of(bytes(raw)))
        except InvalidParams:
            return f"({size} bytes that cannot be read)"
        return shortened(escaped(encode(value).decode()), limit)


def _is_kept(name: str, value: JSON) -> bool:
    """Whether a value is kept from the log for its name. ``max_tokens: 100`` is none of it."""
    counted = isinstance(value, int | float) and name.lower().endswith("tokens")
    return value is not None and not isinstance(value, bool) and not counted and is_secret_name(name)


def _assigned(found: re.Match[str]) -> str:
    name, opening = found["name"], found["quote"]
    if opening is not None:
        return f"{name}{opening}{MASK}{found['end'] or ''}"
    counted = found["value"].isdigit() and name.lower().rstrip("\"'\\ \t\r\n:=").endswith("tokens")
    return found.group() if counted else f"{name}{found['scheme'] or ''}{MASK}"


def _forms(secret: str) -> Collection[str]:
    """A secret as it may be written: as it is, in JSON (also JSON in JSON), in a URL."""
    try:
        written = {secret, *(text(secret) for text in (_utf8, _ascii))}
        return {*written, *(text(each) for each in written for text in (_utf8, quote, _whole))} - {""}
    except UnicodeEncodeError:  # bytes that are no text, which no JSON can hold
        return ()


def _utf8(text: str) -> str:
    """As a string of JSON in UTF-8, without its quotes."""
    return encode(text).decode()[1:-1]


def _ascii(text: str) -> str:
    """The same in ASCII, as Python writes it."""
    return json.dumps(text)[1:-1]


def _whole(text: str) -> str:
    """As a part of a URL of which every mark is spelt out."""
    return quote(text, safe="")
