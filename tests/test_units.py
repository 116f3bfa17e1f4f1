"""Numbers are written as people read them, and what is unknown is never a 0."""

from __future__ import annotations

import math

import pytest

from core import units


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512 B"), (1536, "1.50 KiB"), (8 * 2**30, "8.00 GiB"), (None, "–")],
)
def test_bytes(value: float | None, text: str) -> None:
    assert units.bytes_text(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("24GiB", 24 * 2**30), ("24 GB", 24 * 10**9), ("512MiB", 2**29), ("1.5g", 1.5e9), ("7", 7)],
)
def test_amounts_of_memory_are_read(text: str, value: float) -> None:
    assert units.parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "lots", "-4GiB", "4 GiB free"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="amount of memory"):
        units.parse_bytes(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.4, "4 s"), (65, "1 min 05 s"), (3700, "1 h 01 min"), (90000, "1 d 1 h"), (math.nan, "–")],
)
def test_durations(seconds: float, text: str) -> None:
    assert units.duration_text(seconds) == text


def test_nan_is_nan() -> None:
    assert units.number_text(math.nan) == "nan"
    assert units.number_text(None) == "–"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (12, 40, "12–40 s"),
        (60, 400, "60 s – 7 min"),
        (240, 840, "4–14 min"),
        (240, 241, "4 min"),
        (3600, 9 * 3600, "60 min – 9.0 h"),
        (6 * 3600, 20 * 3600, "6.0–20 h"),
        (86400 * 3, 86400 * 10, "3.0–10.0 d"),
        (None, 5, "–"),
        (float("nan"), 5, "–"),
    ],
)
def test_rough_times_have_few_digits(low: float | None, high: float | None, text: str) -> None:
    assert units.span_text(low, high) == text


def test_money_is_a_range() -> None:
    assert units.dollars_text(0.4, 1.1) == "$0.40–1.10"
    assert units.dollars_text(1200.4, 9000) == "$1,200–9,000"
