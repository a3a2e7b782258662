"""The encoding of text in MCP's HTTP headers (2026-07-28, transports, "Value Encoding").

Printable ASCII travels as it is; whatever would not survive a header field, or could be mistaken for the encoding
itself, travels as ``=?base64?…?=``.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_PLAIN: Final = re.compile(r"[\x20-\x7e]*")
_PREFIX: Final = b"=?base64?"
_SUFFIX: Final = b"?="
_OWS: Final = b" \t"


def encode_value(text: str) -> bytes:
    """Text as a header value."""
    if _PLAIN.fullmatch(text) is not None and text == text.strip():
        value = text.encode("ascii")
        if not is_encoded(value):
            return value
    return _PREFIX + base64.b64encode(text.encode()) + _SUFFIX


def decode_value(value: bytes) -> str | None:
    """The text of a header value, optional white space around it left aside; ``None`` for a malformed encoding.

    Base64 that is not canonical is malformed: two spellings of one name would let two readers disagree.
    """
    value = value.strip(_OWS)
    if not is_encoded(value):
        return value.decode("latin-1")
    payload = value[len(_PREFIX) : -len(_SUFFIX)]
    try:
        decoded = base64.b64decode(payload, validate=True)
        return decoded.decode() if base64.b64encode(decoded) == payload else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def is_encoded(value: bytes) -> bool:
    """Whether a value, without white space around it, has the form of the encoding."""
    return len(value) >= len(_PREFIX) + len(_SUFFIX) and value.startswith(_PREFIX) and value.endswith(_SUFFIX)
