"""Runs as rows of a table: what each column says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from textual.content import Content

from core.text import printable
from core.units import MISSING, count_text, known, number_text
from tui.widgets.bars import bar
from tui.widgets.line_table import Column, Row
from tui.widgets.phrases import PHASE_STYLES, PHASE_SYMBOLS

if TYPE_CHECKING:
    from core.runs.brief import Brief
    from core.runs.state import RunState
    from core.runs.supervisor import RunSummary

PROGRESS_WIDTH = 16
COLUMNS = (
    Column("Run", 14, grow=3),
    Column("Model", 16, grow=2, needs=100),
    Column("Method", 6, needs=100),
    Column("State", 12),
    Column("", PROGRESS_WIDTH, needs=124),
    Column("Step", 11, right=True),
    Column("Loss", 7, right=True),
    Column("Held-out", 8, right=True),
    Column("Age", 8, right=True),
)


def run_row(summary: RunSummary, brief: Brief, now: float) -> Row:
    """One run."""
    state = summary.state
    return (
        _name(summary.id),
        printable(brief.model.rsplit("/", 1)[-1] or MISSING, single_line=True),
        printable(brief.method or MISSING, single_line=True),
        state_badge(state),
        _progress(state),
        steps_text(state),
        loss_text(state.loss),
        loss_text(state.eval_loss),
        age_text(now - state.created),
    )


def _name(run_id: str) -> Content:
    """The id, its time stamp muted: the name is what one looks for."""
    name = printable(run_id, single_line=True)
    stamp = re.search(r"-\d{8}-\d{6}.*", name)
    return (
        Content.assemble(name)
        if stamp is None
        else Content.assemble(name[: stamp.start()], (stamp.group(), "$text-muted"))
    )


def state_badge(state: RunState) -> Content:
    """A symbol and a word; while the run works, the word is its stage."""
    word = state.stage if state.phase in ("preparing", "running") and state.stage else state.phase
    return Content.styled(
        f"{PHASE_SYMBOLS.get(state.phase, '?')} {printable(word, single_line=True)}",
        PHASE_STYLES.get(state.phase, ""),
    )


def _progress(state: RunState) -> Content:
    if not state.alive or not state.total_steps:
        return Content("")
    return bar(state.step / state.total_steps, PROGRESS_WIDTH)


def steps_text(state: RunState) -> str:
    """`41/60`, or a dash before the training has begun."""
    if not state.total_steps:
        return MISSING
    return f"{count_text(state.step)}/{count_text(state.total_steps)}"


def loss_text(loss: float | None) -> Content:
    """A loss, NaN in the colour of an error: it is a finding, not a gap."""
    bad = loss is not None and not known(loss)
    text = number_text(loss).replace("nan", "NaN")
    return Content.styled(text, "bold $error" if bad else "")


def age_text(seconds: float) -> str:
    """Roughly how long ago, short and slow to change: every change goes over the wire."""
    for limit, size, unit in ((3600, 60, "min"), (86400, 3600, "h"), (float("inf"), 86400, "d")):
        if seconds < limit:
            whole = int(max(0.0, seconds) // size)
            return f"{whole} {unit}" if whole else "just now"
    return MISSING
