"""The numbers of a run, beside the chart or below it."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size

from core.hardware.machine import Machine
from core.runs.watch import RunView
from core.units import MISSING, count_text, duration_text, number_text
from tui.widgets.machine_panel import machine_beside
from tui.widgets.phrases import Reading, section, table


def run_readings(view: RunView) -> dict[str, list[Reading]]:
    """All readings of a run by heading."""
    history = view.history
    best = history.eval_loss.best
    groups = {
        "Loss": [
            ("train", number_text(history.loss.last, 4)),
            ("eval", number_text(history.eval_loss.last, 4)),
            (
                "best eval",
                MISSING if best is None else f"{number_text(best[1], 4)} @ {best[0]:,}",
            ),
        ],
        "Optimiser": [
            ("learning rate", small_text(history.learning_rate.last)),
            ("grad norm", number_text(history.grad_norm.last, 3)),
            ("epoch", MISSING if history.epoch is None else f"{history.epoch:.2f}"),
        ],
        "Pace": [
            ("tokens/s", count_text(history.tokens_per_s.last)),
            ("tokens", count_text(history.tokens)),
            ("a step", step_text(history.step_seconds)),
        ],
        "Time": [
            ("elapsed", duration_text(view.elapsed)),
            ("left", duration_text(history.eta_seconds if view.state.alive else None)),
        ],
    }
    groups["Time"] += money_readings(view)
    return groups


def money_readings(view: RunView) -> list[Reading]:
    """Dollars spent and to come, where the recipe knows a price."""
    price, elapsed, left = view.dollars_per_hour, view.elapsed, view.history.eta_seconds
    if not price or elapsed is None:
        return []
    money = [("spent", f"${elapsed / 3600 * price:.2f}")]
    if view.state.alive and left is not None:
        money.append(("to come", f"${left / 3600 * price:.2f}"))
    return money


def small_text(value: float | None) -> str:
    """A learning rate: `1.00e-4`."""
    if value is None or value == 0:
        return MISSING if value is None else "0"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa  # NaN has none


def step_text(seconds: float | None) -> str:
    if seconds is None:
        return MISSING
    return f"{seconds:.2f} s" if seconds < 60 else duration_text(seconds)


def panel_beside(view: RunView, machine: Machine | None, size: Size) -> list[Content]:
    """Everything in a column of its own under headings, with air between them if there is room."""
    groups = [section(*group, size.width) for group in run_readings(view).items()]
    lines = sum(len(group) for group in groups)
    groups.append(machine_beside(view, machine, size.width, size.height - lines - len(groups)))
    airy = sum(len(group) + 1 for group in groups) - 1 <= size.height
    return [line for group in groups for line in (*group, *([Content("")] if airy else []))]


def readings_below(view: RunView, width: int) -> list[Content]:
    """In a few rows under the chart, without headings."""
    groups = run_readings(view)
    del groups["Time"][1]  # what is left stands beside the progress bar
    return table(
        [pair for group in groups.values() for pair in group], width, 4 if width > 100 else 3
    )
