"""Round numbers along an axis, and how they are written."""

from __future__ import annotations

import math


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values within [low, high], at most `most` of them, evenly apart."""
    if most < 1 or not math.isfinite(low) or not math.isfinite(high):
        return []
    if high <= low:
        return [low]
    step = _round_step((high - low) / max(1, most))
    while True:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [index * step for index in range(first, last + 1)]
        step = _round_step(step * 1.01)


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values for a logarithmic axis: 1, 2 and 5 a decade while they fit, else 1 or fewer."""
    if most < 1 or low <= 0 or high < low:
        return []
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**d for d in decades for f in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) <= most:
            break
    if len(ticks) < 2:
        return linear_ticks(low, high, min(most, 3))
    return ticks[:: max(1, math.ceil(len(ticks) / most))]


def step_ticks(first: float, last: float, most: int) -> list[float]:
    """Whole steps along the x axis."""
    return [tick for tick in linear_ticks(first, last, most) if tick == int(tick)]


def tick_texts(ticks: list[float]) -> list[str]:
    """The ticks written alike: with as many decimals as tell them apart, `k` from 10,000."""
    if not ticks:
        return []
    largest = max(abs(tick) for tick in ticks)
    if largest >= 10_000:
        return [_thousands(tick) for tick in ticks]
    if 0 < largest < 1e-3:
        return [f"{tick:.1e}".replace("e-0", "e-") for tick in ticks]
    decimals = next(
        (d for d in range(7) if all(math.isclose(round(t, d), t, abs_tol=1e-9) for t in ticks)), 6
    )
    return [f"{tick:.{decimals}f}" for tick in ticks]


def _thousands(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e3 else f"{value:g}"


def _round_step(rough: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))
