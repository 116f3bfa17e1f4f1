"""What must not be overlooked on the dashboard: the end of the run, its death, its alarms."""

from __future__ import annotations

from textual.content import Content

from core.runs.diagnosis import RESUME
from core.runs.history import Notice
from core.runs.watch import RunView
from core.text import printable
from core.units import number_text

NOTICES_SHOWN = 2
WHILE_IT_TRAINS = ("over-fitting", "loss-spike", "exploding-gradient")
"""What one could do something about as long as the run went on; that it ended early is the end of
the matter."""


def banner(view: RunView) -> Content:
    """The lines to show above the chart, most important first; empty on a quiet day."""
    if view.behind:
        return Content("")
    ending = {"failed": _failed, "finished": _finished, "stopped": _stopped}.get(view.state.phase)
    lines = [] if ending is None else ending(view)
    return Content("\n").join([*lines, *_alarms(view)])


def _failed(view: RunView) -> list[Content]:
    reason = view.state.exit
    message = "It ended without a reason." if reason is None else reason.message
    lines = [_marked("✗", f"The run has failed. {message}", "bold $error")]
    remedy = "" if reason is None else reason.remedy.replace(RESUME, "").strip()
    if remedy:
        lines.append(Content(f"  {printable(remedy, single_line=True)}"))
    return [*lines, _resume_line(view)]


def _stopped(view: RunView) -> list[Content]:
    return [_marked("■", f"Stopped at step {view.history.step:,}.", "bold"), _resume_line(view)]


def _resume_line(view: RunView) -> Content:
    steps = [event.get("step") for event in view.history.checkpoints]
    where = (
        f" resumes from the checkpoint of step {steps[-1]:,}"
        if steps and isinstance(steps[-1], int)
        else " starts it again on the same rows: there is no checkpoint yet"
    )
    return Content.assemble("  ", ("r", "bold $accent"), where)


def _finished(view: RunView) -> list[Content]:
    parts: list[Content | str | tuple[str, str]] = [("✓ Finished.", "bold $success"), "  "]
    parts += [("6", "bold $accent"), " chats with the tuned model   "]
    parts += [("5", "bold $accent"), " shows the results"]
    gain = _gain(view)
    if gain:
        parts += [f"   {gain}"]
    return [Content.assemble(*parts)]


def _gain(view: RunView) -> str:
    """Exact match of base and tuned, in a few words; empty if it was not measured."""
    tuned = view.history.results.get("tuned", {}).get("exact_match")
    base = view.history.results.get("base", {}).get("exact_match")
    if not isinstance(tuned, int | float):
        return ""
    before = f"{base:.0%} → " if isinstance(base, int | float) else ""
    return f"exact match {before}{tuned:.0%}"


def _alarms(view: RunView) -> list[Content]:
    """The last warnings, each code once, and what the chart cannot show."""
    latest: dict[str, Notice] = {}
    for notice in view.history.notices:
        latest.pop(notice.code, None)
        if notice.severity == "warning" or view.state.phase != "failed":
            latest[notice.code] = notice
    if view.state.phase == "finished" and "early-stopping" in latest:
        latest = {code: one for code, one in latest.items() if code not in WHILE_IT_TRAINS}
    shown = list(latest.values())[-NOTICES_SHOWN:]
    lines = [
        _marked("!", f"{notice.message} {notice.remedy}".strip(), "$warning") for notice in shown
    ]
    if view.history.nan_losses:
        count, of = view.history.nan_losses, len(view.history.loss)
        last = number_text(view.history.loss.last)
        lines.insert(
            0,
            _marked(
                "!",
                f"{count:,} of {of:,} losses are not a number (gaps in the chart; now {last}).",
                "$warning",
            ),
        )
    return lines


def _marked(symbol: str, text: str, style: str) -> Content:
    return Content.styled(f"{symbol} {printable(text, single_line=True)}", style)
