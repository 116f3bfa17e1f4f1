"""The top of the dashboard: which run, how far, what happens next, and what went wrong."""

from __future__ import annotations

from textual.content import Content

from core.recipe import MethodSection
from core.runs.history import Progress
from core.runs.watch import RunView
from core.text import clip, printable
from core.units import bytes_text, count_text, duration_text
from tui.widgets.bars import bar
from tui.widgets.phrases import phase_badge, spread

STALL_SECONDS = 10.0
WORDS = {
    "downloading": "download",
    "encoding": "encode",
    "loading": "load",
    "training": "train",
    "merging": "merge",
    "evaluating": "evaluate",
}


def header_lines(view: RunView, width: int) -> list[Content]:
    """Three lines: the run, its way through the stages, its progress."""
    return [title_line(view, width), _rail(view).truncate(width), _progress(view, width)]


def title_line(view: RunView, width: int) -> Content:
    """The run's state and name, and what it tunes."""
    name = Content.styled(clip(printable(view.name, single_line=True), 40), "bold")
    left = Content.assemble(phase_badge(view.state.phase), "  ", name)
    what = printable(_subject(view), single_line=True)
    room = width - left.cell_length - 3
    run_id = printable(view.run.id, single_line=True)
    wordings = (f"{what} · {run_id}", what, clip(what, max(0, room)))
    right = next(text for text in wordings if len(text) <= room or text == wordings[-1])
    return spread(left, Content.styled(right, "$foreground-muted"), width)


def _subject(view: RunView) -> str:
    if view.recipe is None:
        return ""
    model = view.recipe.model.id.rstrip("/").rsplit("/", 1)[-1]
    return f"{model} · {method_words(view.recipe.method)}"


def method_words(method: MethodSection) -> str:
    """Its title, with the knob that says most about its size."""
    knobs = {"rank": f"r={method.rank}", "layers": f"{method.layers}"}
    knobs["virtual_tokens"] = f"{method.virtual_tokens} tokens"
    size = next((text for knob, text in knobs.items() if knob in method.spec.knobs), "")
    bits = "" if method.base_bits == method.spec.bits[0] else f"{method.base_bits} bits"
    return " ".join(part for part in (method.spec.title, size, bits) if part)


def _rail(view: RunView) -> Content:
    """The stages in order: done ones ticked, the present one marked, those to come grey."""
    history = view.history
    now = history.stage
    parts = []
    stages = _stages(view)
    reached = stages.index(now) if now in stages else _reached(view, stages)
    for index, stage in enumerate(stages):
        word = WORDS[stage]
        if view.state.phase == "finished" or index < reached:
            parts.append(Content.styled(f"{word} ✓", "$foreground-muted"))
        elif index == reached and stage == now:
            mark = "▸" if view.state.alive else "✗" if view.state.phase == "failed" else "■"
            parts.append(Content.styled(f"{mark} {word}", "bold"))
        else:
            parts.append(Content.styled(word, "$foreground-disabled"))
    return Content.styled("  ›  ", "$foreground-disabled").join(parts)


def _stages(view: RunView) -> list[str]:
    """The stages that this run goes through: without a download if the model lies here."""
    recipe = view.recipe
    skipped = set()
    if "downloading" not in view.history.stages:
        skipped.add("downloading")
    merges = recipe is None or recipe.ends_with_merge
    if not merges and "merging" not in view.history.stages:
        skipped.add("merging")
    if recipe is not None and not recipe.evaluation.enabled:
        skipped.add("evaluating")
    return [stage for stage in WORDS if stage not in skipped]


def _reached(view: RunView, stages: list[str]) -> int:
    """While a stage without a place of its own runs (importing): the last one that was begun."""
    seen = [index for index, stage in enumerate(stages) if stage in view.history.stages]
    return max(seen) + 1 if seen else 0


def _progress(view: RunView, width: int) -> Content:
    history, state = view.history, view.state
    if view.behind:
        return _barred(view.read, Content(f"reading the run's history, {view.read:.0%}"), width)
    progress = history.progress
    if state.alive and history.stage != "training":
        if progress is None:
            return _barred(None, _waiting(view), width)
        return _barred(progress.fraction, progress_words(progress, view.taken), width)
    fraction = history.step / history.total_steps if history.total_steps else None
    return _barred(fraction, _training_words(view), width)


def _waiting(view: RunView) -> Content:
    stage = view.history.stage
    words = {
        "": "starting the worker",
        "queued": "waiting for the runs before it",
        "importing": "importing the training libraries",
    }
    since = view.history.stage_since or view.state.created
    seconds = duration_text(max(0.0, view.taken - since))
    return Content.assemble(words.get(stage, stage), ("  " + seconds, "$foreground-muted"))


def progress_words(progress: Progress, now: float) -> Content:
    """How far a download or another long job is, with its rate, or since when it stands still."""
    text = clip(printable(progress.text, single_line=True) or progress.stage, 32)
    quiet = now - progress.time
    if not progress.done and not progress.total:  # it only says that it is at work
        return Content.assemble(text, ("  " + duration_text(max(0.0, quiet)), "$foreground-muted"))
    amount = bytes_text if progress.unit == "bytes" else count_text
    unit = "" if progress.unit == "bytes" else f" {progress.unit}"
    parts = [f"{amount(progress.done)}{unit}"]
    if progress.total:
        parts = [f"{amount(progress.done)} of {amount(progress.total)}{unit}"]
    if quiet > STALL_SECONDS:
        parts.append(f"nothing for {duration_text(quiet)}")
    elif progress.rate:
        rate = progress.rate
        parts.append(f"{bytes_text(rate) if progress.unit == 'bytes' else f'{rate:,.1f}'}/s")
        if progress.seconds_left is not None:
            parts.append(f"{duration_text(progress.seconds_left)} left")
    return Content.assemble(text, ("  " + " · ".join(parts), "$foreground-muted"))


def _training_words(view: RunView) -> Content:
    history, state = view.history, view.state
    parts = []
    if history.total_steps:
        parts.append(f"step {history.step:,} of {history.total_steps:,}")
    if history.epoch is not None and view.recipe is not None and view.recipe.training.max_steps:
        parts.append(f"epoch {history.epoch:.2f}")
    elif history.epoch is not None:
        epochs = view.recipe.training.epochs if view.recipe else None
        parts.append(f"epoch {history.epoch:.2f}" + (f" of {epochs:g}" if epochs else ""))
    if state.alive and history.eta_seconds is not None:
        parts.append(f"{duration_text(history.eta_seconds)} left")
    elif not state.alive:
        parts.append(f"took {duration_text(view.elapsed)}")
    return Content(" · ".join(parts))


def _barred(fraction: float | None, words: Content, width: int) -> Content:
    room = min(48, max(10, width - words.cell_length - 8))
    share = "" if fraction is None else f" {fraction:>4.0%}"
    return Content.assemble(bar(fraction, room), (share, "bold"), "  ", words).truncate(width)
