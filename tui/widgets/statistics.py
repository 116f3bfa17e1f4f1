"""How long the rows are, what each cut would cost, what they are like, and where each one went."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from textual.app import ComposeResult
from textual.content import Content

from core.data.report import Estimate, Report, Spread, TokenStatistics, merged_bins
from core.units import count_text
from tui.widgets.painted import LiveLines
from tui.widgets.row_pane import Pane

MOST_BINS = 25
NAMES_WIDTH = 13
NATURE_HEIGHT = 9
FEW = 0.005
"""A share that would be shown as none."""
FIGURES_WIDTH = 51
BESIDE_FROM = 108
"""The width from which the figures stand beside the histogram, not below it."""


class StatisticsView(Pane):
    """The histogram and the figures; it scrolls where both do not fit."""

    def compose(self) -> ComposeResult:
        yield LiveLines(id="figures")

    def show(self, report: Report | None, max_length: int) -> None:
        """Show what is known by now."""
        size = self.size
        lines = statistics_lines(report, max_length, size.width or 76, size.height or 18)
        self.query_one("#figures", LiveLines).show(lines)


def statistics_lines(
    report: Report | None, max_length: int, width: int, height: int
) -> list[Content]:
    """All of it for a width: the figures below the histogram, or beside it."""
    tokens = report.tokens if report is not None else None
    ledger = ledger_lines(report) if report is not None else []
    if width < BESIDE_FROM:
        bars = histogram(tokens, max_length, width - 1, height)
        nature = nature_lines(report, width - 1)
        return _stacked([bars, cut_lines(tokens, max_length), ledger, nature])
    room = width - FIGURES_WIDTH - 1
    bars = histogram(tokens, max_length, room - 3, height)
    figures = _stacked([cut_lines(tokens, max_length), ledger])
    return [
        left.pad_right(max(0, room - left.cell_length)) + right
        for left, right in zip_longest(
            _stacked([bars, nature_lines(report, room - 3)]), figures, fillvalue=Content("")
        )
    ]


def _stacked(parts: Sequence[list[Content]]) -> list[Content]:
    lines: list[Content] = []
    for part in parts:
        if part:
            lines += [Content(""), *part] if lines else part
    return lines


def histogram(
    tokens: TokenStatistics | None, max_length: int, width: int, height: int
) -> list[Content]:
    """How long the rows are, as bars; those beyond the cut in another colour, with a word."""
    if tokens is None or not tokens.histogram:
        words = "No tokens are counted yet. m chooses whose tokenizer counts."
        return [Content.styled(words, "$text-muted")]
    lines_below = NATURE_HEIGHT if height > 2 * NATURE_HEIGHT else 0
    bins = merged_bins(tokens.histogram, max(4, min(MOST_BINS, height - 4 - lines_below)))
    most = max(rows for _, rows in bins)
    digits = max(len(count_text(most)), 4)
    label = max(max(len(count_text(bound)) for bound, _ in bins) + 2, len("tokens"))
    room = max(8, width - label - digits - 4 - len("  cut"))
    lines = [Content.styled(f"{'tokens':>{label}}  {'rows':>{digits}}", "$text-muted")]
    lines += [
        _histogram_line(bound, rows, most, label, digits, room, bound > max_length)
        for bound, rows in bins
    ]
    return [*lines, Content(""), *_verdict(tokens, max_length, width)]


def _verdict(tokens: TokenStatistics, max_length: int, width: int) -> list[Content]:
    length = count_text(max_length)
    cut, counted = tokens.truncated_rows, tokens.counted_rows
    verdict = f"Every row fits in {length} tokens."
    if tokens.margin:
        verdict = f"Every row of the sample fits in {length} tokens."
    if cut:
        about = "About " if tokens.margin else ""
        verdict = (
            f"{about}{count_text(cut)} rows are longer than {length} tokens and lose their end."
        )
    keys = Content.assemble(("[ ]", "bold $accent"), (" move the cut", "$text-muted"))
    beside = len(verdict) + 3 + keys.cell_length <= width
    lines = [Content(verdict) + Content("   ") + keys] if beside else [Content(verdict), keys]
    if tokens.margin:
        sample = (
            f"From a sample of {count_text(counted)} rows: a share may be off by"
            f" {100 * tokens.margin:.1f} points, 19 times in 20."
        )
        lines += [Content.styled(line, "$text-muted") for line in textwrap.wrap(sample, width)]
    return lines


def _histogram_line(
    bound: int, rows: int, most: int, label: int, digits: int, room: int, beyond: bool
) -> Content:
    length = round(rows / most * room) if most else 0
    length = max(1, length) if rows else 0
    style = "$error" if beyond else "$accent"
    return Content.assemble(
        (f"{'≤ ' + count_text(bound):>{label}}", "$text-muted"),
        f"  {count_text(rows):>{digits}}  ",
        ("━" * length, style),
        ("  cut" if beyond and rows else "", style),
    )


def cut_lines(tokens: TokenStatistics | None, max_length: int) -> list[Content]:
    """How many rows each usual max_length would cut; the smallest that cuts few has the star."""
    if tokens is None or not tokens.cut_at:
        return []
    figures = f"a row: p50 {count_text(tokens.p50)}  p95 {count_text(tokens.p95)}"
    figures += f"  p99 {count_text(tokens.p99)}  max {count_text(tokens.max)}"
    lines = [
        Content.styled(figures, "$text-muted"),
        Content(""),
        Content.styled(f"  {'max_length':>10}  {'cut':>7}  {'share':>7}", "$text-muted"),
    ]
    return lines + [_cut_line(tokens, *entry, max_length) for entry in _telling(tokens)]


def _telling(tokens: TokenStatistics) -> list[tuple[int, int]]:
    """The lengths up to the first that cuts nothing."""
    whole = next((at for at, (_, rows) in enumerate(tokens.cut_at) if not rows), None)
    return list(tokens.cut_at[: None if whole is None else whole + 1])


def _cut_line(tokens: TokenStatistics, length: int, rows: int, max_length: int) -> Content:
    starred = length == tokens.recommended_length
    words = "recommended" if starred else ""
    if length == max_length:
        words = f"{words}, yours" if words else "yours"
    share = f"{100 * rows / max(1, tokens.rows):.1f} %"
    figures = f"{count_text(length):>10}  {count_text(rows):>7}  {share:>7}"
    return Content.assemble(
        ("★ " if starred else "  ", "$accent"),
        (figures, "bold" if starred else ""),
        (f"  {words}", "$text-muted"),
    )


def nature_lines(report: Report | None, width: int) -> list[Content]:
    """What the rows are like: turns, answers, roles, languages; and what padding would cost."""
    found = report.statistics if report is not None else None
    if report is None or found is None:
        return []
    title = Content.styled("What the rows are like", "bold $foreground-muted")
    lines = [title, _spread_line("turns a row", found.turns)] if found.roles else [title]
    lines.append(_spread_line("characters", found.responses, " an answer"))
    tokens = report.tokens
    if tokens is not None and tokens.responses is not None:
        lines.append(_spread_line("tokens", tokens.responses, " trained a row"))
    roles = [f"{count_text(count)} {role}" for role, count in found.roles.items()]
    lines += _listed("turns of", roles, width)
    languages = [f"{name} {100 * share:.0f} %" if share >= FEW else f"{name} under 1 %"
                 for name, share in found.languages.items()]  # fmt: skip
    lines += _listed("languages", languages, width)
    if tokens is not None and tokens.padding is not None:
        waste = tokens.padding
        costs = ((waste.shuffled, "shuffled"), (waste.grouped, "like lengths together"),
                 (waste.packed, "packed"))  # fmt: skip
        lines += _listed("padding", [f"{100 * share:.0f} % {how}" for share, how in costs], width)
    return lines


def _spread_line(name: str, spread: Spread, more: str = "") -> Content:
    figures = "  ".join(
        f"{label} {count_text(value)}"
        for label, value in (("p50", spread.p50), ("p95", spread.p95), ("max", spread.max))
    )
    return Content.assemble((f"  {name:<{NAMES_WIDTH}}", "$text-muted"), figures + more)


def _listed(name: str, parts: Sequence[str], width: int) -> list[Content]:
    """The parts after their name, on as many lines as they need."""
    lines = textwrap.wrap(", ".join(parts), max(20, width - NAMES_WIDTH - 2))
    return [
        Content.assemble((f"  {name if not number else '':<{NAMES_WIDTH}}", "$text-muted"), line)
        for number, line in enumerate(lines)
    ]


def ledger_lines(report: Report) -> list[Content]:
    """Every row counted once: usable, truncated, or dropped and why."""
    title = "Every row, counted once" if report.complete else "The rows so far, each counted once"
    lines = [Content.styled(title, "bold $foreground-muted")]
    for reason, rows in report.ledger.items():
        dropped = reason not in ("usable", "truncated")
        whole = "usable as they are" if report.estimate is None else "usable, cut or not"
        words = {"usable": whole, "truncated": "usable, cut at their end"}
        text = words.get(reason, f"dropped: {reason}")
        style = "$error" if dropped else ""
        lines.append(Content.assemble(f"{count_text(rows):>10}  ", (text, style)))
    total = Content.assemble((f"{count_text(report.rows):>10}  ", "bold"), "rows in all")
    return [*lines, total, *_estimate_lines(report.estimate)]


def _estimate_lines(estimate: Estimate | None) -> list[Content]:
    """What of the usable rows is only known from a sample."""
    if estimate is None:
        return []
    sample = f"from a sample of {count_text(estimate.rows)}: ± {count_text(estimate.margin_rows)}"
    lines = [
        "Of the usable, estimated",
        f"{count_text(estimate.truncated):>10}  cut at their end",
        f"{count_text(estimate.no_trained_tokens):>10}  with no token to train on",
        f"  {sample} rows, 19 times in 20",
    ]
    return [Content.styled(line, "$text-muted") for line in lines]
