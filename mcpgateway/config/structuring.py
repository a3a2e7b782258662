"""Nodes in canonical keys → the frozen values of `model`, strictly, with everything that is wrong.

cattrs finds all that is wrong with what it is given, yet a value that does not fit hides what depends on it. So what
is wrong is taken out, and the rest is structured again, until it fits: then there is a `Config` to check as a whole.

An address in a `Finding` is canonical; `Node` knows where that stands in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)

from mcpgateway.config.dialects.shapes import UNSUPPORTED
from mcpgateway.config.document import Address, Node, Refused, did_you_mean, legible, plain
from mcpgateway.config.model import Config, ServerConfig, is_keyed
from mcpgateway.config.strict import strict_converter
from mcpgateway.errors import JSON

_LATER = {(section,) for section in UNSUPPORTED} | {("namespaces", "*", "handshake")}


@attrs.frozen
class Finding:
    """Something that is wrong, or odd, in canonical terms.

    ``at`` is the value that the message is about, ``key`` the entry of it that is at fault, where one is.
    """

    at: Address
    text: str
    key: str | None = None
    absent: bool = False
    odd: bool = False
    """Only worth a warning."""

    @property
    def culprit(self) -> Address:
        return self.at if self.key is None else (*self.at, self.key)


def structure(root: Node, *, base: Path, home: Path) -> tuple[Config, list[Finding]]:
    """The configuration, as far as it fits, and what does not.

    Relative paths are under ``base``, the directory of the file; ``~`` is ``home``.
    """
    converter = strict_converter(base, home)
    value, findings = plain(root), list[Finding]()
    while True:
        try:
            return converter.structure(value, Config), findings
        except (BaseValidationError, Refused) as error:
            culprits = {finding.culprit for finding in findings}
            found = list(_findings(error, ()))
            findings += (each for each in found if not (each.absent and _is_echo(each, culprits)))
            taken = [_prune(value, finding.culprit) for finding in found]
            if not any(taken):
                raise  # it would be found again for ever


def _is_echo(finding: Finding, culprits: set[Address]) -> bool:
    """Whether what is lacking was there, and was taken out."""
    return any(culprit[:-1] == finding.at for culprit in culprits)


def _prune(value: JSON, address: Address) -> bool:
    """Take out what is wrong: an entry with its key, a list with its item, a mapping with what it lacks.

    False where nothing was there to take.
    """
    match value, address:
        case dict(), (str() as key,) if key in value:
            del value[key]
            return True
        case dict(), (str() as key, *rest):
            inner = value.get(key)
            if isinstance(inner, list) or (isinstance(inner, dict) and len(rest) == 1 and rest[0] not in inner):
                del value[key]
                return True
            return _prune(inner, tuple(rest))
    return False


# ---- what cattrs found -----------------------------------------------------------------------------------------------


def _findings(error: Exception, at: Address) -> Iterator[Finding]:
    match error:
        case BaseValidationError():
            for inner in error.exceptions:
                yield from _findings(inner, (*at, *_step(inner)))
        case ForbiddenExtraKeysError():
            for key in sorted(error.extra_fields):
                yield Finding(at, _unknown(at, key, error.cl), key)
        case Refused():
            yield Finding(at if error.key is None else (*at, error.key), error.text, absent=error.absent)
        case KeyError(args=(str(key),)) if at and at[-1] == key:
            yield Finding(at[:-1], f"missing key {key!r}", key, absent=True)
        case ValueError():  # a validator of a third party's class
            yield Finding(at, str(error))
        case _:
            raise error


def _step(error: Exception) -> Address:
    """The step that cattrs noted on the way down to an error."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()


def _unknown(at: Address, key: str, cls: type) -> str:
    if any(_matches((*at, key), pattern) for pattern in _LATER):
        return f"{key!r} is not supported by this version yet"
    hidden = {"source", "name"} if is_keyed(cls) else {"source"}
    extra = ["type"] if issubclass(cls, ServerConfig) else []
    names = [field.name for field in attrs.fields(cls) if field.name not in hidden] + extra
    return f"unknown key {legible(key)!r}{did_you_mean(key, names)}"


def _matches(address: Address, pattern: Address) -> bool:
    return len(address) == len(pattern) and all(want in ("*", got) for got, want in zip(address, pattern, strict=True))
