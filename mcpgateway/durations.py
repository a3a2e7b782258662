"""Durations as people write them: ``500ms``, ``1h30m``, ``7d``.

Read with `parse` and echoed with `format` in the way Go's ``time.Duration`` prints (``168h0m0s``), because clients of
two of the source systems read that form. Inside the gateway a duration is a ``float`` of seconds.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

Seconds: TypeAlias = Annotated[float, "seconds"]
"""A duration. Files write it as text (``30s``, ``1h30m``); a plain ``float`` field takes a plain number."""

_UNITS: Final = {
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
"""Units in nanoseconds, largest first: the order in which a duration names them."""

_MICRO: Final = str.maketrans("\u00b5\u03bc", "uu")  # the micro sign and the Greek letter, both written by Go programs
_FRACTION_DIGITS: Final = 9
_NUMBER: Final = rf"[0-9]{{1,18}}(?:\.[0-9]{{1,{_FRACTION_DIGITS}}})?"
_duration: Final = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in _UNITS)).fullmatch
_bare_number: Final = re.compile(rf"[+-]?{_NUMBER}").fullmatch


def parse(text: str) -> float:
    """Seconds of a duration: one or more of ``d h m s ms us ns``, largest first, each at most once.

    A number has ASCII digits, at most 18 before and 9 behind a point. ``µs`` is ``us``. Days have 24 hours.

    :raises ValueError: anything else, a number without a unit first of all; the message says what to write
    """
    found = _duration(text.translate(_MICRO))
    if not text or found is None:
        raise ValueError(_advice(text))
    # One integer of 10⁻¹⁸ s and one division: the result is the float nearest to what was written.
    total = sum(_scaled(number) * size for number, size in zip(found.groups(), _UNITS.values(), strict=True) if number)
    return total / (1_000_000_000 * 10**_FRACTION_DIGITS)


def _scaled(number: str) -> int:
    whole, _, fraction = number.partition(".")
    return int(whole + fraction.ljust(_FRACTION_DIGITS, "0"))


_go_part: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|ms|s|m|h)").match
_GO_MAXIMUM: Final = 2**63 - 1
"""Nanoseconds, some 292 years."""
_GO_LENGTH: Final = 200


def parse_go(text: str) -> float:
    """Seconds of a duration as Go programs read it (``time.ParseDuration``): a sign, numbers with units in any order.

    ``-1.5h``, ``1h15m30.918273645s``, ``1s1s``, ``.5s`` and a bare ``0`` are durations, days are not. May be negative.
    Beyond the nanosecond nothing counts.

    :raises ValueError: anything else; the message does not show the text
    """
    negative = text.startswith("-")
    digits = text.removeprefix("-") if negative else text.removeprefix("+")
    nanoseconds = 0 if digits == "0" else _go_nanoseconds(digits.translate(_MICRO))
    return (-nanoseconds if negative else nanoseconds) / _UNITS["s"]


def _go_nanoseconds(text: str) -> int:
    total = end = 0
    while end < len(text) <= _GO_LENGTH and (part := _go_part(text, end)) and (part[1] or part[2]):
        whole, fraction, unit = part[1] or "0", part[2] or "0", _UNITS[part[3]]
        total += int(whole) * unit + int(fraction) * unit // 10 ** len(fraction)
        end = part.end()
    if not text or end < len(text):
        raise ValueError('expected a duration such as "30s", "500ms" or "1h30m"')
    if total > _GO_MAXIMUM:
        raise ValueError("longer than 292 years")
    return total


def _advice(text: str) -> str:
    if _bare_number(text):
        return f"{text!r} has no unit: write a unit, such as {text.lstrip('+-')}s"
    return f'expected a duration such as "30s", "500ms" or "1h30m", got {text!r}'


def format(seconds: float) -> str:
    """The duration as Go prints it, to the nanosecond: ``0s``, ``500ms``, ``1.5s``, ``1m30s``, ``168h0m0s``.

    :raises ValueError: negative, infinite or not a number
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"a duration is a finite number of seconds from 0 up, not {seconds!r}")
    nanoseconds = _round_to_nanoseconds(seconds)
    if nanoseconds < _UNITS["s"]:
        return _format_small(nanoseconds)
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{_decimal(rest, _UNITS['s'])}s"


def _round_to_nanoseconds(seconds: float) -> int:
    numerator, denominator = float(seconds).as_integer_ratio()
    return (2 * numerator * _UNITS["s"] + denominator) // (2 * denominator)


def _format_small(nanoseconds: int) -> str:
    for unit, shown in (("ms", "ms"), ("us", "\u00b5s"), ("ns", "ns")):
        if nanoseconds >= _UNITS[unit]:
            return f"{_decimal(nanoseconds, _UNITS[unit])}{shown}"
    return "0s"


def _decimal(amount: int, unit: int) -> str:
    """``amount / unit`` in decimal, exactly: units up to a second are powers of ten nanoseconds."""
    whole, rest = divmod(amount, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
