"""What one row is worth, looked at alone: usable or not, and what is wrong with it.

The inspector, the table of rows and the trainer all ask the same `Judge`, so they agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from core.data.conversation import Unusable, is_weightless
from core.data.examples import (
    Conversation,
    Example,
    FormatName,
    Judged,
    Message,
    Preference,
    Record,
    Text,
)
from core.data.formats import Recogniser, normalise
from core.data.sensitive import find_personal, find_secret

if TYPE_CHECKING:
    from core.data.encoding import TrainOn

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_GARBLED = re.compile("Ã[¡-ª¬-º¼-¿€ƒ„†‡ˆ‰Š‹ŒŽšœžŸ]|â€[™œ˜¦¢“”\x9d]|Â[¡-ª¬-º¼-¿]")
"""What UTF-8 looks like when it was read as Latin-1 or Windows-1252 and saved again: `Ã¼`."""
_REFUSAL = re.compile(
    r"\b(?:as an? (?:ai|artificial intelligence)\b|as a (?:large )?language model\b"
    r"|i(?:['’]m| am) (?:(?:really |very )?sorry|afraid),? (?:but )?(?:i|that i) "
    r"(?:can(?:no|['’])t|am (?:not able|unable))"
    r"|i(?:['’]m| am) (?:not able|unable) to (?:assist|help|provide|fulfil)"
    r"|i (?:can(?:no|['’])t|cannot) (?:assist|help) (?:you )?with (?:that|this)"
    r"|i (?:can(?:no|['’])t|cannot) fulfil)",
)
_REFUSAL_SIGNS = ("as a", "sorry", "afraid", "not able", "unable", "can't", "can’t", "cannot")
_REFUSAL_REACH = 300
"""Boilerplate stands at the beginning of an answer; further in it is mostly a quotation."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a row. `fatal`: the row cannot be trained on."""

    code: str
    detail: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row with what it means (None when it is not usable) and what is wrong with it."""

    record: Record
    format: FormatName
    example: Example | None
    findings: tuple[Finding, ...] = ()

    @property
    def dropped(self) -> str | None:
        """The code of the reason why the row is not usable."""
        return next((finding.code for finding in self.findings if finding.fatal), None)


class Judge:
    """Judges the rows of one source, whose main format is known."""

    def __init__(
        self,
        format: FormatName,
        mapping: Mapping[str, str] | None = None,
        train_on: TrainOn = "assistant",
    ) -> None:
        self.format = format
        self._train_on = train_on
        self._kind = kind_of(format)
        self._recogniser = Recogniser(mapping)

    def judge(self, record: Record, *, clean: bool = False) -> Verdict:
        """`clean`: it is known (`suspicion`) that its texts need no closer look."""
        if record.problem is not None:
            finding = Finding(record.problem, record.detail, fatal=True)
            return Verdict(record, "unknown", None, (finding,))
        layout = self._recogniser.layout(record.value)
        try:
            example = normalise(record.value, layout)
        except Unusable as reason:
            finding = Finding(reason.code, reason.detail, fatal=True)
            return Verdict(record, layout.format, None, (finding,))
        findings = [*self._compare(layout.format), *check(example, clean=clean)]
        if any(finding.fatal for finding in findings):
            return Verdict(record, layout.format, None, tuple(findings))
        findings += self._weigh(example)
        return Verdict(record, layout.format, example, tuple(findings))

    def _weigh(self, example: Example) -> list[Finding]:
        """That no answer is trained, where their weights say so: known without any tokenizer."""
        if not isinstance(example, Conversation) or self._train_on not in ("assistant", "last"):
            return []
        answers = [turn for turn in example.messages if turn["role"] == "assistant"]
        counted = answers[-1:] if self._train_on == "last" else answers
        if not all(map(is_weightless, counted)):
            return []
        which = "its last answer has" if self._train_on == "last" else "all its answers have"
        return [Finding("no-trained-tokens", f"{which} weight 0")]

    def _compare(self, format: FormatName) -> list[Finding]:
        if format == self.format:
            return []
        fatal = kind_of(format) != self._kind
        detail = f"it is {format} among rows of {self.format}"
        return [Finding("mixed-formats", detail, fatal)]


def kind_of(format: FormatName) -> str:
    """Formats of one kind can be trained on together."""
    return format if format in ("text", "preference", "kto", "unknown") else "conversation"


def check(example: Example, *, clean: bool = False) -> list[Finding]:
    """What is wrong with a normalised row."""
    if isinstance(example, Text):
        return [] if clean else _check_texts([example.text], [])
    if isinstance(example, Conversation):
        return _check_conversation(example.messages, clean)
    if isinstance(example, Judged):
        return _check_conversation((*example.prompt, *example.completion), clean)
    assert isinstance(example, Preference)
    findings = _check_conversation((*example.prompt, *example.chosen), clean)
    rejected = _check_conversation((*example.prompt, *example.rejected), clean)
    return findings + [one for one in rejected if one not in findings]


def _check_conversation(messages: Sequence[Message], clean: bool) -> list[Finding]:
    roles = tuple([message["role"] for message in messages])
    order, disorder = _order(roles)
    answers = [messages[at] for at in order]
    if not answers:
        return [Finding("no-assistant-turn", "it has no assistant turn", fatal=True)]
    findings = []
    empty = [answer for answer in answers if _is_empty(answer)]
    if empty:
        fatal = len(empty) == len(answers)
        detail = "its answer is empty" if fatal else "one of its answers is empty"
        findings.append(Finding("empty-response", detail, fatal))
    if disorder:
        findings.append(Finding("bad-turn-order", disorder))
    if clean:
        return findings
    texts = [message["content"] for message in messages]
    return findings + _check_texts(texts, [answer["content"] for answer in answers])


def _is_empty(answer: Message) -> bool:
    text = answer["content"]
    return (not text or text.isspace()) and not answer.get("tool_calls")


@lru_cache(maxsize=4096)
def _order(roles: tuple[str, ...]) -> tuple[tuple[int, ...], str]:
    """Where the answers are, and what is wrong with the order of the turns (most rows share
    a few)."""
    answers = tuple(at for at, role in enumerate(roles) if role == "assistant")
    return answers, _disorder(roles)


def _disorder(roles: Sequence[str]) -> str:
    """What is wrong with the order of the turns, in words; empty when nothing is."""
    previous = ""
    for position, role in enumerate(roles, 1):
        if role == "system" and position > 1:
            return f"turn {position} is a system turn"
        if role == "assistant" and previous in ("", "system"):
            return f"turn {position} answers before anything is asked"
        if role == previous and role in ("user", "assistant"):
            return f"turns {position - 1} and {position} are both {role} turns"
        if role == "tool" and previous not in ("assistant", "tool"):
            return f"turn {position} is a tool's answer that nobody asked for"
        previous = role
    return "" if previous == "assistant" else f"it ends with a {previous} turn"


def _check_texts(texts: Sequence[str], answers: Sequence[str]) -> list[Finding]:
    findings = _strange_content("\n".join(texts))
    heads = "\n".join([answer[:_REFUSAL_REACH] for answer in answers]).lower()
    if any(map(heads.__contains__, _REFUSAL_SIGNS)) and (match := _REFUSAL.search(heads)):
        findings.append(Finding("refusal", f"an answer says “{match.group()}”"))
    return findings


def _strange_content(text: str) -> list[Finding]:
    findings = []
    # `isprintable` is many times faster than the expression, and mostly enough
    if not text.replace("\n", "").isprintable() and (match := CONTROL.search(text)):
        code = f"U+{ord(match.group()):04X}"
        findings.append(Finding("control-characters", f"it holds the control character {code}"))
    if "\ufffd" in text:
        findings.append(Finding("encoding", "it holds U+FFFD, left by a wrong decoding"))
    elif ("Ã" in text or "â" in text or "Â" in text) and (match := _GARBLED.search(text)):
        detail = f"it holds “{match.group()}”, UTF-8 that was once read as another encoding"
        findings.append(Finding("encoding", detail))
    if kind := find_secret(text):
        findings.append(Finding("secret", f"it holds what looks like a secret: {kind}"))
    if kind := find_personal(text):
        findings.append(Finding("pii", f"it holds what looks like {kind}"))
    return findings
