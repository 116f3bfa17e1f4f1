"""The inspector's report as text for people."""

from __future__ import annotations

from collections.abc import Mapping

from core.data.cleaning import Cleaned
from core.data.problems import OF_FILES
from core.data.report import (
    Advice,
    Estimate,
    Leakage,
    Problem,
    Report,
    Statistics,
    TokenStatistics,
    merged_bins,
)
from core.data.rows import MappingTrial, Progress
from core.units import bytes_text, count_text, duration_text

MARKS = {"error": "✗", "warning": "!", "info": "·"}
_LANGUAGES_SHOWN = 6
_BINS_SHOWN = 12
_BAR_WIDTH = 40


def report_lines(report: Report) -> list[str]:
    """The report for people."""
    lines = [
        f"{report.source}",
        f"  format     {report.format}",
        f"  rows       {count_text(report.rows)}, {count_text(report.usable)} usable",
    ]
    for reason, count in report.ledger.items():
        lines.append(f"             {count_text(count):>9}  {reason}")
    lines += _estimate_lines(report.estimate)
    lines += _sample_lines(report)
    lines += _token_lines(report.tokens)
    lines += _statistics_lines(report.statistics)
    lines += _leakage_lines(report.leakage)
    if report.problems:
        lines += ["", "Problems"]
    for problem in report.problems:
        lines += _problem_lines(problem)
    return lines + _advice_lines(report.advice)


def _estimate_lines(estimate: Estimate | None) -> list[str]:
    """What of the usable rows is only known from a sample."""
    if estimate is None:
        return []
    off = f"± {count_text(estimate.margin_rows)} rows"
    return [
        f"             of the usable about {count_text(estimate.truncated)} are truncated and about"
        f" {count_text(estimate.no_trained_tokens)} have no trained tokens:",
        f"             estimated from a sample of {count_text(estimate.rows)} rows, each {off}, 95"
        " times in 100 (--exact counts them)",
    ]


def _sample_lines(report: Report) -> list[str]:
    sample = report.sample
    if sample is None:
        return []
    total = f", the total within ±{report.tokens.total_margin:.1%}" if report.tokens else ""
    return [
        f"  sample     {count_text(sample.rows)} of {count_text(sample.of)} rows are tokenised and"
        " compared: 95 times in 100",
        f"             shares are within ±{100 * sample.margin:.1f} points{total}"
        " (--exact takes every row)",
    ]


def _token_lines(tokens: TokenStatistics | None) -> list[str]:
    if tokens is None:
        return ["  tokens     not counted (--model chooses the tokenizer)"]
    share = tokens.trained / tokens.total if tokens.total else 0
    about = "about " if tokens.margin else ""
    lines = [
        f"  tokens     {about}{count_text(tokens.total)}, "
        f"{count_text(tokens.trained)} trained ({share:.0%})",
        f"  a row      p50 {tokens.p50}  p95 {tokens.p95}  p99 {tokens.p99}  max {tokens.max}"
        f"  truncated rows {about}{count_text(tokens.truncated_rows)}",
    ]
    if tokens.responses is not None:
        found = tokens.responses
        lines.append(f"  trained    p50 {found.p50}  p95 {found.p95}  max {found.max} tokens a row")
    lines += _cut_lines(tokens)
    if tokens.padding is not None:
        waste = tokens.padding
        lines.append(
            f"  padding    {waste.shuffled:.0%} in shuffled batches of 8, {waste.grouped:.0%} with"
            f" like lengths together, {waste.packed:.0%} packed"
        )
    return lines + _histogram_lines(tokens)


def _histogram_lines(tokens: TokenStatistics) -> list[str]:
    """How long the rows are, as bars."""
    bins = merged_bins(tokens.histogram, _BINS_SHOWN)
    most = max((rows for _, rows in bins), default=0)
    lines = []
    for number, (bound, rows) in enumerate(bins):
        title = "histogram" if not number else ""
        length = max(1, round(rows / most * _BAR_WIDTH)) if rows else 0
        figures = f"{'≤ ' + count_text(bound):>10} {count_text(rows):>10}"
        lines.append(f"  {title:<9}  {figures}  {'━' * length}".rstrip())
    return lines


def trial_lines(trial: MappingTrial, mapping: Mapping[str, str]) -> list[str]:
    """How the first rows read with a suggested mapping."""
    said = ", ".join(f"{role} = {column}" for role, column in mapping.items())
    lines = [
        "",
        f"Suggested: {said}",
        f"  {count_text(trial.usable)} of the first {count_text(trial.tried)} rows can be used with"
        f" it, as {trial.format}:",
    ]
    for row in trial.rows:
        lines += [f"  {row.number:>6}  prompt  {row.prompt}", f"  {'':>6}  answer  {row.answer}"]
    return lines


def _cut_lines(tokens: TokenStatistics) -> list[str]:
    """What usual values of max_length would cut, up to the first that cuts nothing."""
    shown = []
    for length, cut in tokens.cut_at:
        mark = " ★" if length == tokens.recommended_length else ""
        shown.append(f"{length}: {cut / tokens.rows:.1%}{mark}")
        if not cut:
            break
    return [f"  cut at     {'  '.join(shown)}"]


def _statistics_lines(found: Statistics | None) -> list[str]:
    if found is None:
        return []
    turns, answers = found.turns, found.responses
    roles = ", ".join(f"{count_text(count)} {role}" for role, count in found.roles.items())
    lines = [
        f"  turns      p50 {turns.p50}  p95 {turns.p95}  max {turns.max}"
        + (f"  ({roles})" if roles else ""),
        f"  responses  p50 {answers.p50}  p95 {answers.p95}  max {answers.max} characters",
    ]
    return lines + _language_lines(found.languages)


def _language_lines(languages: Mapping[str, float]) -> list[str]:
    if not languages:
        return []
    shown = [f"{name} {share:.0%}" for name, share in list(languages.items())[:_LANGUAGES_SHOWN]]
    more = len(languages) - len(shown)
    return [f"  languages  {', '.join(shown)}{f' and {more} more' if more > 0 else ''}"]


def _leakage_lines(leakage: Leakage | None) -> list[str]:
    if leakage is None:
        return []
    lines = [
        "",
        f"Held out: {leakage.source}",
        f"  rows       {count_text(leakage.rows)}, {count_text(leakage.usable)} usable",
    ]
    if not leakage.exact + leakage.near:
        return [*lines, "  leakage    none of them is in the training data"]
    where = ", ".join(map(str, leakage.numbers[:8]))
    more = "…" if leakage.exact + leakage.near > 8 else ""
    return [
        *lines,
        f"  leakage    {count_text(leakage.exact)} are in the training data to the letter,"
        f" {count_text(leakage.near)} nearly (row {where}{more})",
    ]


def _problem_lines(problem: Problem) -> list[str]:
    rows = ", ".join(str(row) for row in problem.rows[:8])
    more = "…" if problem.count > 8 else ""
    where = f" (row {rows}{more})" if rows else ""
    unit = " files" if problem.code in OF_FILES and problem.count > 1 else ""
    lines = [f"  {MARKS[problem.severity]} {problem.code} × {problem.count}{unit}{where}"]
    lines.append(f"    {problem.message} {problem.remedy}".rstrip())
    if problem.example and problem.rows:
        lines.append(f"    row {problem.rows[0]}: {problem.example}")
    return lines


def _advice_lines(advice: tuple[Advice, ...]) -> list[str]:
    lines = ["", "Advice from the literature"] if advice else []
    for one in advice:
        lines += [f"  → {one.text}", f"    {one.why} [{one.source}]"]
    return lines


def cleaned_lines(cleaned: Cleaned) -> list[str]:
    """What was written where."""
    removed = ", ".join(f"{count_text(count)} {code}" for code, count in cleaned.removed.items())
    return [
        "",
        f"{cleaned.file} holds the {count_text(cleaned.kept)} rows that are kept.",
        f"{cleaned.list} names the {count_text(sum(cleaned.removed.values()))} that are not"
        + (f" ({removed})." if removed else "."),
    ]


def progress_line(progress: Progress) -> str:
    """How far the pass is, how fast, and how long it still takes."""
    share = progress.bytes / progress.total_bytes if progress.total_bytes else 0
    text = f"{min(share, 1):4.0%}  {count_text(progress.rows)} rows"
    if progress.rate is not None:
        text += f"  {bytes_text(progress.rate)}/s"
    if progress.seconds_left is not None and not progress.ended:
        text += f"  {duration_text(progress.seconds_left)} left"
    return text
