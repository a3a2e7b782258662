"""What is secret: the secrets that a configuration holds, and names that say "secret" wherever they stand. Pure.

Everything in ``env`` and ``headers`` is secret by its type, but much of it is not, and a text in which every ``true``
and every ``UTC`` is blanked out helps nobody: a short value counts only if its name says that it is one. How a
configuration is shown without them is `mcpgateway.config.masking`, which is stricter: there a ``key`` alone will do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from mcpgateway.config.masking import MASK, looks_secret, masked_arguments
from mcpgateway.config.model import Secret

SHORT: Final = 6
"""Characters of the shortest value of ``env`` and ``headers`` that counts whatever its name is."""
SHORTEST: Final = 4
"""Characters of the shortest value that counts at all: a shorter one stands everywhere by chance."""
LONG: Final = 16
"""Characters of the shortest parameter of a URL that counts whatever its name is."""

_WORDS: Final = (
    *("token", "secret", "password", "passwd", "pass phrase", "pass code", "pwd", "authorization", "credential"),
    *("api key", "access key", "private key", "signing key", "encryption key", "cookie", "bearer", "jwt", "session id"),
)
"""What makes a name one of a secret; where there is a space, ``_`` or ``-`` may stand, or nothing."""
WORD: Final = "|".join(word.replace(" ", "[_-]?") for word in _WORDS)
"""The same as a pattern, for names within a text."""
_TOGETHER: Final = tuple(word.replace(" ", "") for word in _WORDS)
_NAMES: Final = frozenset({"auth", "otp", "pass", "pin"})
_SCHEME: Final = re.compile(r"(?:apikey|basic|bearer|digest|token)\s+", re.IGNORECASE)
_MARKS: Final = re.compile("[^a-z0-9]")


def is_secret_name(name: str) -> bool:
    """Whether a value under this name is to be taken for a secret."""
    plain = _MARKS.sub("", name.lower())
    return plain in _NAMES or any(word in plain for word in _TOGETHER)


def secrets_of(part: object) -> frozenset[str]:
    """The texts that are secret in a configuration, or in a part of one: values of ``env`` and ``headers``, tokens and
    passwords in URLs, and arguments behind flags such as ``--api-key``."""
    return frozenset(secret for secret in _found(part, "") if len(secret) >= SHORTEST)


def _found(value: object, name: str) -> Iterator[str]:
    if isinstance(value, Secret):
        yield from _of_secret(value.reveal(), name)
    elif isinstance(value, str):
        yield from _of_url(value)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _found(each, str(key))
    elif isinstance(value, tuple):
        if name == "args":
            yield from _of_arguments(value)
        for each in value:
            yield from _found(each, name)
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):  # type: ignore[arg-type]  # it is such a class
            yield from _found(getattr(value, field.name), field.name)


def _of_secret(text: str, name: str) -> Iterator[str]:
    """A secret value, and what in it is secret by itself: the credentials of a header, the token of a URL."""
    if len(text) >= SHORT or is_secret_name(name):
        yield text
        yield _SCHEME.sub("", text, count=1)
    yield from _of_url(text)


def _of_url(text: str) -> Iterator[str]:
    """What a URL has of a password, or of a token in the place of a user or in its path, and of secret parameters."""
    if "://" not in text:
        return
    try:
        parts = urlsplit(text)
        user = parts.password or parts.username
    except ValueError:
        return
    if user:
        yield user
        yield unquote(user)
    for key, value in parse_qsl(parts.query):
        if is_secret_name(key) or len(value) >= LONG:
            yield value
    yield from filter(looks_secret, (form for part in parts.path.split("/") for form in {part, unquote(part)}))


def _of_arguments(arguments: tuple[str, ...]) -> Iterator[str]:
    """What stands where `mcpgateway.config.masking` shows ``***``."""
    for given, shown in zip(arguments, masked_arguments(arguments), strict=True):
        hidden = re.fullmatch("(.+)".join(map(re.escape, shown.split(MASK))), given, re.DOTALL)
        for text in (given,) if hidden is None else hidden.groups():
            yield text
            yield _SCHEME.sub("", text, count=1)
