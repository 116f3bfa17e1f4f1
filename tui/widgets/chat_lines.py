"""The sentences around a conversation: how loading goes, how an answer ended, what is set."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from core.chat.events import Loading, Turn
from core.chat.session import ChatSettings
from core.chat.transcript import Transcript
from core.chat.trials import Trial
from core.errors import UserError
from core.runs.directory import RunDirectory
from core.text import clip, printable
from core.units import bytes_text, count_text
from tui.widgets.conversation import Entry

STAGES = {
    "importing": "starting: importing the libraries",
    "downloading": "downloading the model",
    "loading": "loading the model",
}
ENDINGS = {
    "stop": "ended by itself",
    "length": "reached the token limit",
    "stopped": "stopped by you",
}


def welcome(run: RunDirectory, trials: Sequence[Trial]) -> str:
    """What a first visitor should know, and something to say."""
    lines = [f"The tuned model of {run.id} answers here.", ""]
    if trials:
        lines += ["Held-out prompts to try (↑ brings them into the input line, Enter sends):"]
        lines += [f"  · {clip(printable(t.prompt, single_line=True), 100)}" for t in trials[:4]]
        lines += [""]
    lines += ["Esc leaves the input line; then 1 to 6 go to the other places."]
    lines += ["ctrl+b lets the untuned base answer beside it, with the same prompt and seed."]
    return "\n".join(lines)


def loading_line(loading: Loading | None, seconds: float) -> list[Content]:
    """Which stage the loading is in, and since how many seconds."""
    if loading is None:
        return [Content.styled("▸ starting the chat process", "$accent")]
    words = STAGES.get(loading.stage, loading.stage)
    parts = [f"{seconds:.0f} s"]
    if loading.total:
        parts.insert(0, f"{bytes_text(loading.done)} of {bytes_text(loading.total)}")
    text = printable(loading.text, single_line=True)
    return [
        Content.assemble(
            (f"▸ {words}", "$accent"),
            (f"  {' · '.join(parts)}  {clip(text, 40)}".rstrip(), "$foreground-muted"),
        )
    ]


def ready_line(loading: Loading, compare: bool) -> list[Content]:
    """Ready, and on what."""
    parts = [f"on {loading.device}" if loading.device else "", "base beside it" if compare else ""]
    if loading.context:
        parts.append(f"{count_text(loading.context)} tokens of context")
    words = " · ".join(part for part in parts if part)
    return [Content.assemble(("✓ ready", "$success"), (f"  {words}", "$foreground-muted"))]


def error_line(error: UserError, *, again: bool) -> list[Content]:
    """One sentence what went wrong, and what to do."""
    remedy = printable(error.remedy, single_line=True)
    lines = [Content.styled(f"✗ {printable(error.message, single_line=True)}", "$error")]
    way_out = [(f"{remedy} ", "")] if remedy else []
    if again:
        way_out += [("ctrl+r", "$accent"), (" tries again.", "")]
    return [*lines, Content.assemble(*way_out)] if way_out else lines


def closing_line(turn: Turn, expected: str | None) -> Content:
    """How an answer ended and how fast it came; and whether it is what the data has."""
    facts = (
        f"{ENDINGS.get(turn.ended, turn.ended)} · {count_text(turn.tokens)} tokens · "
        f"{turn.seconds:.1f} s · {turn.tokens_per_s:.1f} tokens/s"
    )
    verdict = Content("")
    if expected is not None:
        same = turn.text.strip() == expected.strip()
        verdict = (
            Content.styled("✓ as in the held-out row", "$success")
            if same
            else Content.styled(
                f"✗ the held-out row has: {printable(expected.strip(), single_line=True)}", "$error"
            )
        ) + Content.styled(" · ", "$foreground-muted")
    return verdict + Content.styled(facts, "$foreground-muted")


def settings_line(settings: ChatSettings, compare: bool) -> Content:
    """What the next answer is generated with."""
    how = "greedy" if settings.temperature == 0 else f"temperature {settings.temperature:g}"
    system = (
        "template's system prompt"
        if settings.system is None
        else f"system: {clip(printable(settings.system, single_line=True), 40) or '(empty)'}"
    )
    who = "base | tuned" if compare else "tuned"
    words = f"{who} · {how} · at most {settings.max_new_tokens} tokens · seed {settings.seed}"
    return Content.styled(f"{words} · {system}", "$foreground-muted")


def entries_of(transcript: Transcript) -> list[Entry]:
    """A loaded transcript as entries; the answers of two models to one question side by side."""
    entries: list[Entry] = []
    for line in transcript.lines:
        content = str(line.get("content", ""))
        if line["role"] == "user":
            entries += [Entry("you", {"you": content}), Entry("answer")]
        elif line["role"] == "assistant" and entries:
            entries[-1].texts[str(line.get("who", "tuned"))] = content
    return entries or [Entry("note", {"note": "This conversation is empty."})]
