"""What of a configuration may be shown: URLs, arguments and texts, with ``***`` for what is secret in them. Pure.

Environment and headers are secret throughout. Elsewhere secrets are where people put them: in the query of a URL, in
its path, in front of its host, and in arguments such as ``--api-key=…`` or ``--header "Authorization: Bearer …"``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import unquote, unquote_plus, urlsplit

MASK: Final = "***"

_WORDS: Final = "key|token|secret|password|passwd|pwd|auth|bearer|credential|cookie|signature|jwt"
_SOUNDS: Final = rf"[\w-]{{0,64}}(?:{_WORDS})[\w-]{{0,64}}"
_WITHIN: Final = rf"[\w-]{{0,32}}(?:{_WORDS})[\w-]{{0,32}}"  # a search tries it at every character
_SECRET_FLAG: Final = re.compile(rf"-{{0,2}}{_SOUNDS}", re.IGNORECASE)
_SECRET_PARAMETER: Final = re.compile(rf"{_SOUNDS}|sig|sign|code|pass|session|sid", re.IGNORECASE)
_RANDOM: Final = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[\w+=.~-]{20,}", re.ASCII)
_URL: Final = re.compile(r"[A-Za-z][\w+.-]{0,20}://\S+")
_IN_TEXT: Final = (
    (re.compile(rf"^(-{{0,2}}{_SOUNDS}=).+", re.IGNORECASE | re.DOTALL), rf"\1{MASK}"),
    (re.compile(rf'("{_WITHIN}"\s*:\s*)("(?:[^"\\]|\\.)*"|[^,}}\]\s]+)', re.IGNORECASE), rf'\1"{MASK}"'),
    (re.compile(rf"^({_SOUNDS}:\s*)\S.*", re.IGNORECASE | re.DOTALL), rf"\1{MASK}"),
    (re.compile(rf"({_WITHIN}=)[^\s&]+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(rf"(--?{_WITHIN}\s+)(?!-)\S+", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b(?:eyJ|sk-|gh[a-z]_|github_pat_|glpat-|xox[a-z]-|AKIA)[\w.~+/=-]{8,}"), MASK),
)
"""Secrets within a text, and what is shown of them: members of JSON, header fields, settings, flags of a shell command,
and tokens that say by their first characters what they are."""
_LONGEST: Final = 4096
"""Characters of an argument that are searched for secrets; a longer one is not shown at all."""


# ---- URLs ------------------------------------------------------------------------------------------------------------


def masked_url(url: str) -> str:
    """The URL with ``***`` for each value of its query, for user and password, and for what looks like a token."""
    return _masked_url(url, lambda name, value: True)


def masked_endpoint(url: str) -> str:
    """The URL of an upstream: like `masked_url`, but of its query only what is secret by its name or its looks."""
    return _masked_url(
        url, lambda name, value: value != "" and (bool(_SECRET_PARAMETER.fullmatch(name)) or looks_secret(value))
    )


def _masked_url(url: str, is_secret: Callable[[str, str], bool]) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port  # a password with a slash in it looks like a port that is none
    except ValueError:
        return f"{url.partition('://')[0]}://{MASK}" if "://" in url else MASK

    def parameter(text: str) -> str:
        name, equals, value = text.partition("=")
        if not equals:
            return MASK if text else text
        return f"{name}={MASK}" if is_secret(unquote_plus(name), unquote_plus(value)) else text

    def segment(text: str) -> str:
        return MASK if looks_secret(unquote(text)) else text

    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(
        netloc=f"{MASK}@{host}" if at and user else host,
        path="/".join(map(segment, parts.path.split("/"))),
        query="&".join(map(parameter, parts.query.split("&"))),
        fragment=segment(parts.fragment),
    ).geturl()


def looks_secret(text: str) -> bool:
    """Whether a text is like generated tokens and UUIDs, and like no word."""
    return _RANDOM.fullmatch(text) is not None


# ---- arguments and texts ---------------------------------------------------------------------------------------------


def masked_arguments(args: Sequence[str]) -> list[str]:
    """Arguments with ``***`` for what follows a flag that names a secret, and for what is secret within one."""
    return list(_masked(args))


def _masked(args: Sequence[str]) -> Iterator[str]:
    secret = False
    for argument in args:
        yield MASK if secret and not argument.startswith("-") else _masked_text(argument)
        secret = _SECRET_FLAG.fullmatch(argument) is not None


def _masked_text(text: str) -> str:
    if len(text) > _LONGEST:
        return MASK
    text = _URL.sub(lambda url: masked_url(url[0]), text)
    for pattern, shown in _IN_TEXT:
        text = pattern.sub(shown, text)
    return text


def without(secrets: Iterable[str], text: str) -> str:
    """The text with ``***`` wherever one of these secrets stands in it."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
