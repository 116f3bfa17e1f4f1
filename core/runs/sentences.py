"""What happened in a run, a sentence an event: for the command line and for the dashboard."""

from __future__ import annotations

from pathlib import PurePath

from core.runs.events import Event
from core.units import count_text, known, number_text


def sentence(event: Event) -> str | None:
    """The event in words; None for those that come by the hundred, and those of no interest."""
    tell = _SENTENCES.get(event["kind"])
    return None if tell is None else tell(event)


def _eval_line(event: Event) -> str:
    line = f"held-out loss {number_text(event.get('loss'), 4)} at step {event.get('step')}"
    if not known(event.get("margin")):
        return line
    right = f", right on {event['accuracy']:.0%}" if known(event.get("accuracy")) else ""
    return f"{line}; chosen above rejected by {number_text(event.get('margin'), 3)}{right}"


def _choices_line(event: Event) -> str:
    """What the worker chose, without the reasons (these are in the log)."""
    found = event.get("choices") or []
    parts = [f"{each.get('name', '')} {each.get('value', '')}".replace("_", " ") for each in found]
    return f"chosen for this machine: {', '.join(parts)}"


def _rows_line(event: Event) -> str:
    """Where the rows went."""
    train, held_out = count_text(event.get("train")), count_text(event.get("held_out"))
    source = [PurePath(str(name)).name for name in event.get("eval_source") or ()]
    more = f" and {len(source) - 1} more" if len(source) > 1 else ""
    where = f" (from {source[0]}{more})" if source else ""
    left = event.get("left_out")
    rest = f", {count_text(left)} beyond max_rows" if left else ""
    return f"{train} rows to train on, {held_out} held out{where}{rest}"


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
    "rows": _rows_line,
    "choices": _choices_line,
    "eval": _eval_line,
    "warning": _notice_line,
    "error": _notice_line,
    "result": _result_line,
    "checkpoint": _checkpoint_line,
    "choice": _choice_line,
}
