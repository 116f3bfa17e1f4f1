"""The price of an hour, as somebody typed it: remembered by device."""

from __future__ import annotations

import json
import math
from pathlib import Path

from core.errors import UserError, describe_os_error
from core.paths import home

MOST_DOLLARS = 100_000.0


def parse_price(text: str) -> float | None:
    """`2.49` or `$2.49` → dollars; nothing typed → None. UserError for anything else."""
    bare = text.strip().removeprefix("$").strip()
    if not bare:
        return None
    try:
        price = float(bare)
    except ValueError:
        price = math.nan
    if not 0 <= price < MOST_DOLLARS:  # NaN is neither
        raise UserError("A price is a number of dollars, like 2.49.")
    return price


def remembered_price(device: str) -> float | None:
    """Dollars an hour, as last typed for this device."""
    price = _prices().get(device)
    return price if isinstance(price, int | float) and 0 <= price < MOST_DOLLARS else None


def remember_price(device: str, price: float | None) -> None:
    """Keep it for the next plan; None forgets it. UserError where the home cannot be written."""
    from core.runs.directory import write_atomically

    prices = {**_prices(), device: price}
    kept = {name: value for name, value in prices.items() if value is not None}
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_file(), json.dumps(kept, indent=1, ensure_ascii=False))
    except OSError as error:
        raise describe_os_error(error, "remember the price") from error


def _file() -> Path:
    return home() / "prices.json"


def _prices() -> dict[str, object]:
    try:
        tree = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
