"""Base against tuned: the table of scores, the rows, and one row in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from core.evaluation.comparison import FEW_ROWS, Pair, interval
from core.evaluation.metrics import Answer
from core.evaluation.results import ModelResult
from core.runs.outputs import Output
from core.runs.watch import RunView
from core.text import clip, printable
from core.units import MISSING, bytes_text, count_text, known, number_text
from tui.widgets.run_header import progress_words

FILTERS: dict[str, tuple[str, ...]] = {
    "all": ("fixed", "broke", "right", "wrong"),
    "fixed": ("fixed",),
    "broke": ("broke",),
    "still wrong": ("wrong",),
    "right": ("right",),
}
RIGHT, WRONG, UNKNOWN = "✓", "✗", "–"
NAME_WIDTH, CELL_WIDTH = 14, 19


def score_lines(models: dict[str, ModelResult]) -> list[Content]:
    """The scores of both models and what the tuning changed; a dash was not measured."""
    base, tuned = models.get("base"), models.get("tuned")
    lines = [_line("", "base", "tuned", Content.styled("change", "bold"), "bold")]
    lines.append(_shares("exact match", _share(base, "exact_match"), _share(tuned, "exact_match")))
    if any(model and model.json_valid is not None for model in (base, tuned)):
        lines.append(_shares("valid JSON", _share(base, "json_valid"), _share(tuned, "json_valid")))
    lines.append(_values("held-out loss", _loss(base), _loss(tuned), 4))
    lines.append(_values("perplexity", _perplexity(base), _perplexity(tuned), 2))
    return lines


def _loss(model: ModelResult | None) -> float | None:
    return None if model is None else model.loss


def _perplexity(model: ModelResult | None) -> float | None:
    return None if model is None else model.perplexity


def _share(model: ModelResult | None, name: str) -> tuple[float, int] | None:
    share = None if model is None else getattr(model, name)
    return None if model is None or share is None else (share, model.rows)


def _shares(name: str, base: tuple[float, int] | None, tuned: tuple[float, int] | None) -> Content:
    """Shares as `98 of 100  98 %`; their change in percentage points."""
    change = MISSING
    style = ""
    if base and tuned:
        points = (tuned[0] - base[0]) * 100
        change, style = f"{points:+.0f} points", _style(points)
    return _line(name, _of(base), _of(tuned), Content.styled(change, style))


def _of(share: tuple[float, int] | None) -> str:
    if share is None:
        return MISSING
    return f"{round(share[0] * share[1]):,} of {share[1]:,} {share[0]:>5.0%}"


def _values(name: str, base: float | None, tuned: float | None, digits: int) -> Content:
    change, style = MISSING, ""
    if base is not None and tuned is not None and known(base) and known(tuned):
        change, style = f"{tuned - base:+,.{digits}f}", _style(base - tuned)
    return _line(name, _number(base, digits), _number(tuned, digits), Content.styled(change, style))


def _number(value: float | None, digits: int) -> str:
    return number_text(value, digits) if value is None or abs(value) < 1e6 else f"{value:.2e}"


def _style(gain: float) -> str:
    return "$success" if gain > 0 else "$error" if gain < 0 else ""


def _line(name: str, base: str, tuned: str, change: Content, style: str = "") -> Content:
    return Content.assemble(
        (f"{name:<{NAME_WIDTH}}", "$foreground-muted"),
        (f"{base:>{CELL_WIDTH}}", style or "$foreground-muted"),
        (f"{tuned:>{CELL_WIDTH}}", style or "bold"),
        "   ",
        change,
    )


def caveats(view: RunView, models: dict[str, ModelResult], trained: bool) -> list[Content]:
    """What the scores do not say: what is missing, still being measured, or uncertain.

    `trained`: there is a model that could be measured.
    """
    if view.state.alive:
        return [Content.styled(f"▸ {words}", "$accent") for words in _coming(view, models)]
    doubts = (*_missing(view, models, trained), *_doubts(models))
    return [Content.styled(f"! {words}", "$warning") for words in doubts]


def _coming(view: RunView, models: dict[str, ModelResult]) -> Iterable[str]:
    history = view.history
    if history.stage == "evaluating" and history.progress is not None:
        yield f"Being measured now: {progress_words(history.progress, view.taken).plain}"
    elif "tuned" not in models:
        stage = f"is {history.stage}" if history.stage else "goes on"
        yield f"The run {stage}. The models are measured when it has trained and merged."


def _missing(view: RunView, models: dict[str, ModelResult], trained: bool) -> Iterable[str]:
    if not trained:
        how = "resume it with r on 4 Train." if view.state.phase != "finished" else ""
        yield f"The run has {view.state.phase} before it had a model to measure: {how}"
        return
    wanted = view.recipe is None or view.recipe.evaluation.enabled
    if "tuned" not in models:
        why = "the run ended before that" if wanted else "the recipe asks for no evaluation"
        yield f"Nothing has been measured: {why}. v measures now."
    elif "base" not in models:
        asked = view.recipe is None or view.recipe.evaluation.base
        why = "v measures it now." if asked else "The recipe says evaluation.base: false."
        yield f"The base model was not measured. {why}"


def _doubts(models: dict[str, ModelResult]) -> Iterable[str]:
    tuned = models.get("tuned")
    if tuned is None:
        return
    if tuned.exact_match is not None and 0 < tuned.rows < FEW_ROWS:
        low, high = interval(tuned.exact_match, tuned.rows)
        yield (f"Only {tuned.rows} rows: the tuned share could as well be {low:.0%} or {high:.0%}.")
    if tuned.exact_match is None:
        yield "No answers were generated, so there is no exact match."
    if tuned.cut_off and tuned.cut_off >= 0.05:
        yield (
            f"{tuned.cut_off:.0%} of the tuned answers reached the limit of "
            f"{tuned.max_new_tokens} tokens and were cut off."
        )


def method_line(models: dict[str, ModelResult]) -> Content:
    """How the numbers came about."""
    tuned = models.get("tuned") or models.get("base")
    if tuned is None:
        return Content("")
    words = (
        f"Greedy answers to {count_text(tuned.rows)} held-out rows; loss over "
        f"{count_text(tuned.loss_tokens)} tokens of {count_text(tuned.loss_rows)} rows."
    )
    return Content.styled(words, "$foreground-muted")


def output_lines(found: Sequence[Output], width: int) -> list[Content]:
    """Where the results lie, with their sizes at the right edge of the names."""
    lines = []
    name_width = max((len(output.name) for output in found), default=0)
    for output in found:
        name = printable(output.name, single_line=True)
        path = printable(str(output.path), single_line=True)
        room = width - name_width - 14
        shown = path if len(path) <= room else "…" + path[len(path) - room + 1 :]
        lines.append(
            Content.assemble(
                (f"{name:<{name_width}}", "$foreground-muted"),
                f"{bytes_text(output.size):>11}  ",
                (shown, "$foreground-muted"),
            )
        )
    return lines


def filter_line(pairs: Sequence[Pair], chosen: str) -> Content:
    """The filters with how many rows each shows; the chosen one stands out."""
    parts = []
    for name, verdicts in FILTERS.items():
        count = sum(pair.verdict in verdicts for pair in pairs)
        text = f"{name} {count:,}"
        here = name == chosen
        parts.append(
            Content.styled(
                f"[{text}]" if here else f" {text} ", "bold" if here else "$foreground-muted"
            )
        )
    return Content.assemble(("f", "$accent"), ("  rows: ", "$foreground-muted")) + Content(
        " "
    ).join(parts)


def table_row(pair: Pair) -> list[Content | str]:
    """A row of the table: number, prompt, reference, and a mark for each model."""
    return [
        f"{pair.number:,}",
        _cell(pair.prompt),
        _cell(pair.reference),
        mark(pair.base),
        mark(pair.tuned),
    ]


def _cell(text: str) -> str:
    return clip(printable(text, single_line=True), 240)


def mark(answer: Answer | None) -> Content:
    """✓ exact, ✗ not, – not generated."""
    if answer is None:
        return Content.styled(UNKNOWN, "$foreground-muted")
    return Content.styled(RIGHT, "$success") if answer.exact else Content.styled(WRONG, "$error")


def detail(pair: Pair | None) -> Content:
    """One row in full. All of it is untrusted text."""
    if pair is None:
        return Content("")
    blocks = [
        _block("prompt", Content(""), pair.prompt),
        _block("reference", Content(""), pair.reference),
        _block("base", mark(pair.base), _answer(pair.base)),
        _block("tuned", mark(pair.tuned), _answer(pair.tuned)),
    ]
    return Content("\n").join(blocks)


def _answer(answer: Answer | None) -> str:
    if answer is None:
        return "not generated"
    cut = "  (cut off)" if answer.ended == "length" else ""
    return (answer.answer or "(empty)") + cut


def _block(title: str, sign: Content, text: str) -> Content:
    head = Content.assemble((title, "bold $foreground-muted"), " ", sign)
    return Content("\n").join([head, Content(printable(text)), Content("")])
