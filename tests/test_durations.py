import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway import durations

DAY = 86_400.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("1h30m", 5400.0),
        ("7d", 7 * DAY),
        ("1.5s", 1.5),
        ("1.5h30m", 7200.0),
        ("100us", 1e-4),
        ("100\u00b5s", 1e-4),
        ("100\u03bcs", 1e-4),
        ("1ns", 1e-9),
        ("0s", 0.0),
        ("0.1s", 0.1),
        ("1d2h3m4s5ms6us7ns", DAY + 2 * 3600 + 3 * 60 + 4.005006007),
        ("90m", 5400.0),
        ("9500ms", 9.5),
    ],
)
def test_parse(text: str, seconds: float) -> None:
    assert durations.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "s", "1 s", " 1s", "1s ", "1s\n", "-1s", "+1s", "1m1h", "1s1s", "1w", "1S", ".5s", "5.s", "1,5s"),
        *("1e3s", "٣s", "１s", "1s500", "30.s", "inf", "nan", "1" * 19 + "s", "1.0000000000s", "1" * 5000 + "s"),
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError, match='expected a duration such as "30s"'):
        durations.parse(text)


@pytest.mark.requirement("6.config")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("-0", 0.0),
        ("+5s", 5.0),
        ("-1.5h", -5400.0),
        ("1h15m30.918273645s", 4530.918273645),
        ("2h45m", 9900.0),
        ("300ms", 0.3),
        ("1m1h", 3660.0),
        ("1s1s", 2.0),
        (".5s", 0.5),
        ("5.s", 5.0),
        ("1ns", 1e-9),
        ("1.9ns", 1e-9),
        ("100us", 1e-4),
        ("100\u00b5s", 1e-4),
        ("100\u03bcs", 1e-4),
        ("5m.5s", 300.5),
        ("0.3333333333333333333h", 1200.0),
        ("9223372036854775807ns", 9223372036.854775807),
    ],
)
def test_parse_as_go_does(text: str, seconds: float) -> None:
    assert durations.parse_go(text) == pytest.approx(seconds, abs=1.1e-9)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "+",
            "-",
            "3",
            "1.5",
            ".",
            ".s",
            "-.s",
            "+-1s",
            "--1s",
            "1 s",
            " 1s",
            "1s ",
            "1d",
            "1w",
            "1S",
            "1x",
            "1s3",
        ),
        *(
            "1e3s",
            "1,5s",
            "٣s",
            "s",
            "ms1",
            "1m s",
            "0x1s",
            "9223372036854775808ns",
            "2562048h",
            "1s" * 101,
            "1" * 5000 + "s",
        ),
    ],
)
def test_what_go_refuses_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # the text is looked at
        durations.parse_go(text)

    assert len(text) < 3 or text not in str(caught.value)


@given(st.integers(0, 2**53))
def test_go_reads_what_is_printed(nanoseconds: int) -> None:
    text = durations.format(nanoseconds / 1e9)

    assert durations.parse_go(text) == durations.parse(text)
    assert durations.parse_go("-" + text) == -durations.parse(text)


@pytest.mark.parametrize(("text", "advice"), [("30", "30s"), ("0", "0s"), ("1.5", "1.5s"), ("-30", "30s")])
def test_a_bare_number_is_told_to_have_a_unit(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text!r} has no unit: write a unit, such as {advice}") + "$"):
        durations.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (7 * DAY, "168h0m0s"),
        (DAY, "24h0m0s"),
        (1800, "30m0s"),
        (90, "1m30s"),
        (60.5, "1m0.5s"),
        (1.5, "1.5s"),
        (0.5, "500ms"),
        (0.0015, "1.5ms"),
        (1e-4, "100\u00b5s"),
        (1.5e-8, "15ns"),
        (1e-10, "0s"),
        (0.9999999999, "1s"),
        (3600.000000001, "1h0m0.000000001s"),
    ],
)
def test_format(seconds: float, text: str) -> None:
    assert durations.format(seconds) == text


@pytest.mark.parametrize("seconds", [-1, -1e-9, math.inf, math.nan])
def test_format_refuses(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite number of seconds"):
        durations.format(seconds)


@given(st.integers(0, 10**15) | st.integers(0, 10**10))
def test_nanoseconds_survive_the_round_trip(nanoseconds: int) -> None:
    seconds = nanoseconds / 10**9
    assert durations.parse(durations.format(seconds)) == seconds


@given(st.floats(0, 1e12))
def test_format_is_within_half_a_nanosecond_and_parses(seconds: float) -> None:
    assert durations.parse(durations.format(seconds)) == pytest.approx(seconds, rel=1e-15, abs=0.500001e-9)


@given(st.lists(st.integers(0, 999), min_size=7, max_size=7))
def test_parse_adds_up_its_units(numbers: list[int]) -> None:
    sizes = [86_400 * 10**9, 3600 * 10**9, 60 * 10**9, 10**9, 10**6, 10**3, 1]
    text = "".join(f"{number}{unit}" for number, unit in zip(numbers, "d h m s ms us ns".split(), strict=True))
    total = sum(number * size for number, size in zip(numbers, sizes, strict=True))
    assert durations.parse(text) == total / 10**9


@given(st.text("0123456789.dhmsunµ-", max_size=10))
def test_parse_gives_a_finite_number_or_a_value_error(text: str) -> None:
    try:
        seconds = durations.parse(text)
    except ValueError:
        return
    assert 0 <= seconds < math.inf
