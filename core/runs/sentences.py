"""What happened in a run, a sentence an event: for the command line and for the dashboard."""

from __future__ import annotations

from core.runs.events import Event
from core.units import count_text, known, number_text


def sentence(event: Event) -> str | None:
    """The event in words; None for those that come by the hundred, and those of no interest."""
    tell = _SENTENCES.get(event["kind"])
    return None if tell is None else tell(event)


def _eval_line(event: Event) -> str:
    return f"held-out loss {number_text(event.get('loss'), 4)} at step {event.get('step')}"


def _notice_line(event: Event) -> str:
    mark = "✗" if event["kind"] == "error" else "!"
    return f"{mark} {event.get('message', '')} {event.get('remedy', '')}".rstrip()


def _result_line(event: Event) -> str:
    parts = [f"{event.get('model', ''):<5}"]
    parts.append(f"loss {number_text(event.get('loss'))}")
    if known(event.get("perplexity")):
        parts.append(f"perplexity {number_text(event.get('perplexity'), 2)}")
    share = event.get("exact_match")
    if share is not None:
        parts.append(f"exact match {share:.1%} of {count_text(event.get('rows'))} held-out rows")
    return "  ".join(parts)


def _choice_line(event: Event) -> str | None:
    if event.get("step") == event.get("last_step"):
        return None
    return (
        f"the result is the checkpoint of step {event.get('step')}: held-out loss "
        f"{number_text(event.get('best_loss'), 4)}, {number_text(event.get('last_loss'), 4)} at "
        f"step {event.get('last_step')}"
    )


def _checkpoint_line(event: Event) -> str:
    return f"checkpoint at step {event.get('step')}"


_SENTENCES = {
    "eval": _eval_line,
    "warning": _notice_line,
    "error": _notice_line,
    "result": _result_line,
    "checkpoint": _checkpoint_line,
    "choice": _choice_line,
}
