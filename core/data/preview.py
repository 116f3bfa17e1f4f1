"""Rows as they are shown: clipped, printable, nothing that a terminal would obey."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from core.data.examples import Conversation, Example, Judged, Message, Preference, Text
from core.data.problems import KINDS
from core.data.rows import RowDetail, RowPreview, RowProblem, Turn
from core.data.verdict import Verdict
from core.text import printable

_LINE = 240
_PAGE = 100_000


def preview_of(verdict: Verdict) -> RowPreview:
    """The line that the table has of a row."""
    turns = turns_of(verdict.example) if verdict.example is not None else ()
    answers = [at for at, turn in enumerate(turns) if turn.role in ("assistant", "chosen", "text")]
    if answers:
        prompts = [turn for turn in turns[: answers[-1]] if turn.role == "user"]
        prompt, answer = prompts[-1].text if prompts else "", turns[answers[-1]].text
    else:
        prompt, answer = _raw_text(verdict), ""
    return RowPreview(
        number=verdict.record.number,
        format=verdict.format,
        turns=len(turns),
        prompt=_line(prompt),
        answer=_line(answer),
        problems=tuple(dict.fromkeys(finding.code for finding in verdict.findings)),
    )


def detail_of(verdict: Verdict, place: str, raw: bytes, codes: Sequence[str]) -> RowDetail:
    """A row in full. `codes` are those of the pass, which compares rows too."""
    problems = [
        RowProblem(finding.code, printable(finding.detail, single_line=True))
        for finding in verdict.findings
    ]
    told = {problem.code for problem in problems}
    problems += [RowProblem(code, f"it is among those that {KINDS[code].what}") for code in codes
                 if code not in told]  # fmt: skip
    turns = turns_of(verdict.example) if verdict.example is not None else ()
    return RowDetail(
        number=verdict.record.number,
        place=place,
        raw=_page(_pretty(verdict, raw)),
        turns=tuple(Turn(turn.role, _page(turn.text)) for turn in turns),
        problems=tuple(problems),
    )


def turns_of(example: Example) -> tuple[Turn, ...]:
    """The turns of a row in reading order; the answers of a pair are `chosen` and `rejected`."""
    match example:
        case Text(text):
            return (Turn("text", text),)
        case Conversation(messages):
            return tuple(map(_turn, messages))
        case Preference():
            chosen = (Turn("chosen", _turn(message).text) for message in example.chosen)
            rejected = (Turn("rejected", _turn(message).text) for message in example.rejected)
            return (*map(_turn, example.prompt), *chosen, *rejected)
        case Judged():
            return (*map(_turn, example.prompt), *map(_turn, example.completion))


def searchable(search: str) -> Callable[[bytes], bool]:
    """A test for raw rows: whether they hold this text, in any case, escaped or not."""
    needle = search.lower()
    plain = needle.encode("utf-8", "replace")
    escaped = json.dumps(needle).encode()[1:-1]

    def matches(raw: bytes) -> bool:
        lower = raw.lower()
        if plain in lower or escaped in lower:
            return True
        return not needle.isascii() and needle in raw.decode("utf-8", "replace").lower()

    return matches


def _turn(message: Message) -> Turn:
    text = str(message["content"])
    if message.get("tool_calls"):
        calls = json.dumps(message["tool_calls"], ensure_ascii=False, indent=1, default=str)
        text = f"{text}\n{calls}".strip()
    return Turn(message["role"], text)


def _raw_text(verdict: Verdict) -> str:
    if verdict.record.problem is not None:
        return verdict.record.detail
    return json.dumps(verdict.record.value, ensure_ascii=False, default=str)


def _pretty(verdict: Verdict, raw: bytes) -> str:
    if verdict.record.problem is None and len(raw) <= _PAGE:
        return json.dumps(verdict.record.value, ensure_ascii=False, indent=2, default=str)
    return raw[: 2 * _PAGE].decode("utf-8", "replace")


def _line(text: str) -> str:
    return printable(text[:_LINE], single_line=True)


def _page(text: str) -> str:
    rest = len(text) - _PAGE
    return printable(text[:_PAGE]) + (f"\n… {rest:,} more characters" if rest > 0 else "")
