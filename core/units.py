"""Numbers as people read them: bytes, durations, rates. None and NaN become a dash, never a 0."""

from __future__ import annotations

import math

GIB = 1024**3
MIB = 1024**2
MISSING = "–"


def known(value: float | None) -> bool:
    """Whether `value` is a number at all (NaN and None are not)."""
    return value is not None and not math.isnan(value)


def bytes_text(value: float | None) -> str:
    """Bytes with a binary unit and three significant figures: `8.04 GiB`."""
    if value is None or math.isnan(value):
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1000 or unit == "GiB":
            break
        value /= 1024
    digits = 0 if unit == "B" or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}"


def parse_bytes(text: str) -> int:
    """`24GiB`, `24 GB`, `512MiB` or a plain number of bytes → bytes. ValueError when it is not."""
    import re

    match = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not match:
        raise ValueError(f"“{text}” is not an amount of memory; write it like 24GiB.")
    number, prefix, binary = match.groups()
    power = " kmgt".index(prefix) if prefix else 0
    return int(float(number) * (1024 if binary else 1000) ** power)


def duration_text(seconds: float | None) -> str:
    """Seconds as `42 s`, `3 min 05 s`, `2 h 07 min` or `3 d 4 h`."""
    if seconds is None or math.isnan(seconds) or math.isinf(seconds):
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def span_text(low: float | None, high: float | None) -> str:
    """A time that is only known roughly, without digits that it does not deserve: `4–14 min`."""
    if low is None or high is None or not (known(low) and known(high)):
        return MISSING
    (first, unit), (last, last_unit) = _rough(low), _rough(high)
    if unit == last_unit:
        return f"{first} {unit}" if first == last else f"{first}–{last} {unit}"
    return f"{first} {unit} – {last} {last_unit}"


def _rough(seconds: float) -> tuple[str, str]:
    """Two figures or a whole number, and the unit."""
    for limit, size, unit in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            value = seconds / size
            return f"{value:.1f}" if unit == "h" and value < 10 else f"{value:.0f}", unit
    return f"{seconds / 86400:.1f}", "d"


def dollars_text(low: float, high: float) -> str:
    """A range of money: `$0.40–1.10`; cents only where they say something."""
    digits = 0 if low >= 100 else 2
    return f"${low:,.{digits}f}–{high:,.{digits}f}"


def count_text(value: float | None) -> str:
    """A count, with thousands set apart: `12,345`."""
    return MISSING if value is None or math.isnan(value) else f"{value:,.0f}"


def parameters_text(value: int | None) -> str:
    """A parameter count as the field writes it: `135M`, `7.24B`."""
    if value is None:
        return MISSING
    if value >= 1e9:
        return f"{value / 1e9:.3g}B"
    return f"{value / 1e6:.3g}M" if value >= 1e6 else f"{value / 1e3:.3g}K"


def number_text(value: float | None, digits: int = 3) -> str:
    """A measured number with `digits` decimals; NaN is written out, since it is a finding."""
    if value is None:
        return MISSING
    if math.isnan(value) or math.isinf(value):
        return str(value)
    return f"{value:.{digits}f}"
