"""The one encoding of a row: token ids, labels, and spans for display.

Inspection, preview, training, evaluation and chat all go through `encode` and `encode_prompt`.

The mask comes from the model's own chat template. For every answer the conversation before it
is rendered with the generation prompt; the answer is what the template writes after that, up to
and with the token that generation stops at. Where a template rewrites history (it drops earlier
thoughts, say), so that those prefixes do not fit together, the row becomes one sequence for
every answer instead.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from os.path import commonprefix
from typing import Any, Literal

from core.data.chat_template import TemplateRefusal
from core.data.conversation import is_weightless
from core.data.encoded import IGNORED as IGNORED
from core.data.encoded import Encoded as Encoded
from core.data.encoded import Span as Span
from core.data.encoded import SpanKind
from core.data.examples import Conversation, Example, Judged, Message, Preference, Text
from core.data.tokenizer import Offset, Tokenizer

TrainOn = Literal["assistant", "last", "all", "text"]
Tools = Sequence[dict[str, Any]]
NO_CALLS = "the template does not show tool calls"
"""Why an answer that is a tool call is not trained, for some templates."""


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A conversation as text, with the parts (start, end) of it that are trained."""

    text: str
    trained: tuple[Offset, ...]
    notes: tuple[str, ...]


def encode(
    example: Example, tokenizer: Tokenizer, max_length: int | None, train_on: TrainOn
) -> list[Encoded]:
    """The training sequences of a row, cut at `max_length` (None: not at all).

    Mostly one. A preference row gives two, the chosen answer first. A row that the template
    refuses gives one empty sequence, whose note says why. With `text` all of a row is trained
    and nothing cut away: what is too long goes on in a further sequence.
    """
    whole = [
        _tokenize(rendered, tokenizer) for rendered in _sequences(example, tokenizer, train_on)
    ]
    if max_length is None:
        return whole
    if train_on == "text":
        return [part for one in whole for part in pieces(one, tokenizer, max_length)]
    return [truncate(one, tokenizer, max_length) for one in whole]


def pieces(encoded: Encoded, tokenizer: Tokenizer, max_length: int) -> list[Encoded]:
    """A sequence in parts of at most `max_length` tokens. Each part but the first begins with the
    last token of the one before, untrained: so every token is still predicted, and once."""
    ids, labels = encoded.input_ids, encoded.labels
    if len(ids) <= max_length:
        return [encoded]
    found = []
    for start in range(0, len(ids) - 1, max_length - 1):
        part = labels[start : start + max_length]
        if start:
            part[0] = IGNORED
        one = _encoded(ids[start : start + max_length], part, tokenizer, encoded.notes)
        found.append(replace(one, stop=encoded.stop))  # a part that goes on needs no end
    return found


def truncate(encoded: Encoded, tokenizer: Tokenizer, max_length: int) -> Encoded:
    """`encoded` without the tokens beyond `max_length`, which are counted."""
    excess = len(encoded.input_ids) - max_length
    if excess <= 0:
        return encoded
    ids, labels = encoded.input_ids[:max_length], encoded.labels[:max_length]
    return _encoded(ids, labels, tokenizer, encoded.notes, cut=excess)


def encode_prompt(
    messages: Sequence[Message], tokenizer: Tokenizer, tools: Tools = ()
) -> list[int]:
    """The ids that generation starts from: the messages and the generation prompt.

    May raise `TemplateRefusal`.
    """
    render = _Renderer(tokenizer, tools)
    return tokenizer.encode_text(render(messages, prompt=True))


def spans(encoded: Encoded, tokenizer: Tokenizer, max_length: int | None = None) -> list[Span]:
    """Every token of a sequence (encoded with max_length None) as it is shown."""
    limit = len(encoded.input_ids) if max_length is None else max_length
    pieces = tokenizer.pieces(encoded.input_ids)
    return [
        Span(piece, _kind(position < limit, label, token in tokenizer.special_ids), token)
        for position, (piece, label, token) in enumerate(
            zip(pieces, encoded.labels, encoded.input_ids, strict=True)
        )
    ]


def _kind(inside: bool, label: int, special: bool) -> SpanKind:
    if not inside:
        return "truncated"
    if label != IGNORED:
        return "trained"
    return "special" if special else "context"


def _encoded(
    ids: list[int], labels: list[int], tokenizer: Tokenizer, notes: tuple[str, ...], cut: int = 0
) -> Encoded:
    trained = [label for label in labels if label != IGNORED]
    stop = bool(trained) and trained[-1] in tokenizer.stop_ids
    return Encoded(ids, labels, len(trained), stop, cut, notes)


def _sequences(example: Example, tokenizer: Tokenizer, train_on: TrainOn) -> list[_Rendered]:
    if isinstance(example, Text):
        return [_render_text(example.text, tokenizer)]
    if isinstance(example, Conversation):
        return _render_conversation(example.messages, example.tools, tokenizer, train_on)
    answers: tuple[tuple[Message, ...], ...]
    if isinstance(example, Preference):
        answers = (example.chosen, example.rejected)
    else:
        assert isinstance(example, Judged)
        answers = (example.completion,)
    return [
        rendered
        for answer in answers
        for rendered in _render_conversation((*example.prompt, *answer), (), tokenizer, "last")
    ]


def _render_text(text: str, tokenizer: Tokenizer) -> _Rendered:
    """Plain text between the tokens that begin and end a document."""
    opening = tokenizer.bos or "" if tokenizer.adds_bos else ""
    start = "" if text.startswith(opening) else opening
    end = tokenizer.eos or ""
    whole = start + text + ("" if end and text.endswith(end) else end)
    return _Rendered(whole, ((len(opening), len(whole)),), ())


class _Renderer:
    """Renders parts of one conversation, all of them in the same way.

    A template that refuses system messages gets the system's text at the head of the first user
    turn instead; `notes` tells.
    """

    def __init__(self, tokenizer: Tokenizer, tools: Tools) -> None:
        self._tokenizer = tokenizer
        self._tools = tools
        self._folds_system = False
        self.notes: list[str] = []

    def __call__(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        if self._folds_system:
            return self._render(_system_in_user_turn(messages), prompt)
        try:
            return self._render(messages, prompt)
        except TemplateRefusal:
            folded = _system_in_user_turn(messages)
            if len(folded) == len(messages):
                raise
            text = self._render(folded, prompt)
            self._folds_system = True
            self.notes.append(
                "The template has no system turn: its text stands at the head of the first user"
                " turn."
            )
            return text

    def _render(self, messages: Sequence[Message], prompt: bool) -> str:
        return self._tokenizer.render(messages, self._tools, add_generation_prompt=prompt)


def _system_in_user_turn(messages: Sequence[Message]) -> list[Message]:
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return list(messages)
    text = f"{messages[0]['content']}\n\n{messages[1]['content']}"
    return [{**messages[1], "content": text}, *messages[2:]]


def _render_conversation(
    messages: Sequence[Message], tools: Tools, tokenizer: Tokenizer, train_on: TrainOn
) -> list[_Rendered]:
    answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        return [_Rendered("", (), ("No assistant turn: nothing to train on.",))]
    kept = messages[: answers[-1] + 1]
    render = _Renderer(tokenizer, tools)
    if len(kept) < len(messages):
        render.notes.append("The turns after the last answer are left out.")
    chosen = [at for at in answers if not is_weightless(messages[at])]
    if len(chosen) < len(answers):
        render.notes.append("Answers with weight 0 are not trained.")
    if train_on == "last":
        if len(answers) > 1:
            render.notes.append("Only the last answer is trained.")
        chosen = [at for at in chosen if at == answers[-1]]
    try:
        whole = render(kept)
        if train_on in ("all", "text"):
            end = _end_of_answer(whole, 0, len(whole), tokenizer)
            return [_Rendered(whole, ((0, end),), tuple(render.notes))]
        return _render_answers(kept, chosen, whole, render, tokenizer)
    except TemplateRefusal as refusal:
        return [_Rendered("", (), (f"The template refuses this row: {refusal}.",))]


def _render_answers(
    messages: Sequence[Message],
    answers: Sequence[int],
    whole: str,
    render: _Renderer,
    tokenizer: Tokenizer,
) -> list[_Rendered]:
    """One sequence with every answer in it, or one for each where history is rewritten."""
    parts = []
    for at in answers:
        text = whole if at == len(messages) - 1 else render(messages[: at + 1])
        parts.append(_render_answer(messages, at, text, render, tokenizer))
    notes = list(render.notes)
    for part in parts:
        notes.extend(note for note in part.notes if note not in notes)
    if all(_fits(part, whole) for part in parts):
        trained = tuple(span for part in parts for span in part.trained)
        return [_Rendered(whole, trained, tuple(notes))]
    notes.append("The template rewrites earlier turns: every answer is a sequence of its own.")
    return [replace(part, notes=tuple(notes)) for part in parts if part.trained]


def _fits(part: _Rendered, whole: str) -> bool:
    """Whether what leads to this answer, and the answer, stand in the whole conversation too."""
    end = part.trained[0][1] if part.trained else 0
    return whole.startswith(part.text[:end])


def _render_answer(
    messages: Sequence[Message], at: int, text: str, render: _Renderer, tokenizer: Tokenizer
) -> _Rendered:
    """`text`, which ends with the answer at position `at`, with that answer marked."""
    try:
        prompt = render(messages[:at], prompt=True)
    except TemplateRefusal as refusal:
        note = f"Turn {at + 1} is not trained: the template cannot ask for it ({refusal})."
        return _Rendered(text, (), (note,))
    notes: tuple[str, ...] = ()
    start = len(prompt)
    if not text.startswith(prompt):
        start = _end_of_header(prompt, text, render(messages[:at]), tokenizer)
        added = prompt[start:]
        if start < 0:
            note = f"Turn {at + 1} is not trained: the template rewrites what leads to it."
            return _Rendered(text, (), (note,))
        notes = (
            f"The template begins generation with {added!r}, which is not in the training row.",
        )
    end = _end_of_answer(text, start, len(text), tokenizer)
    if not _shows_calls(messages[at], text[start:end]):
        note = f"Turn {at + 1} is not trained: {NO_CALLS}."
        return _Rendered(text, (), (*notes, note))
    return _Rendered(text, ((start, end),), notes)


def _shows_calls(message: Message, answer: str) -> bool:
    """Whether an answer's tool calls are in what the template makes of it. Without them the model
    would learn to say nothing where a call belongs."""
    return all(call["function"]["name"] in answer for call in message.get("tool_calls") or ())


def _end_of_header(prompt: str, text: str, before: str, tokenizer: Tokenizer) -> int:
    """Where the answer begins if the generation prompt holds more than the answer's header.

    That is after the part that both share, taken back to the end of the last special token or
    line in it, and never before the turns that precede; -1 if these differ already.
    """
    shared = commonprefix([prompt, text])  # noqa: RUF071 - of characters, not of paths
    if not shared.startswith(before):
        return -1
    ends = [
        shared.rfind(token) + len(token) for token in tokenizer.added.values() if token in shared
    ]
    return max([len(before), shared.rfind("\n") + 1, *ends])


def _end_of_answer(text: str, start: int, end: int, tokenizer: Tokenizer) -> int:
    """The end of the answer in text[start:end]: after the first of the stop tokens at its end,
    else where the white space at its end begins (generation stops at nothing there)."""
    end = first = start + len(text[start:end].rstrip())
    while stop := next((s for s in tokenizer.stop_texts if text.endswith(s, start, end)), None):
        first = end
        end = start + len(text[start : end - len(stop)].rstrip())
    return first


def _tokenize(rendered: _Rendered, tokenizer: Tokenizer) -> Encoded:
    """Ids and labels. What leads to an answer is tokenized apart from it, as it is when the
    answer is generated. Where text at a beginning gets a space in front (SentencePiece), the
    whole is tokenized at once, and parted only where a token would reach over a border."""
    ids: list[int] = []
    labels: list[int] = []
    starts = [start for start, _ in rendered.trained] if tokenizer.splits_freely else []
    edges = [0, *(start for start in starts if start), len(rendered.text)]
    for left, right in pairwise(edges):
        part, part_labels = _tokenize_part(rendered, left, right, tokenizer)
        ids += part
        labels += part_labels
    return _encoded(ids, labels, tokenizer, rendered.notes)


def _tokenize_part(
    rendered: _Rendered, left: int, right: int, tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
    ids, offsets = tokenizer.encode_with_offsets(rendered.text[left:right])
    moved = [(start + left, end + left) for start, end in offsets] if left else offsets
    borders = sorted({b for span in rendered.trained for b in span if left < b < right})
    crossed = next((border for border in borders if _is_inside_token(border, moved)), None)
    if crossed is None:
        return ids, _labels(ids, moved, rendered.trained)
    before = _tokenize_part(rendered, left, crossed, tokenizer)
    after = _tokenize_part(rendered, crossed, right, tokenizer)
    return before[0] + after[0], before[1] + after[1]


def _is_inside_token(border: int, offsets: Sequence[Offset]) -> bool:
    before = bisect_left(offsets, (border, 0)) - 1  # the last token that starts before it
    return before >= 0 and offsets[before][1] > border


def _labels(ids: Sequence[int], offsets: Sequence[Offset], trained: Sequence[Offset]) -> list[int]:
    labels = [IGNORED] * len(ids)
    position = 0
    for start, end in trained:
        while position < len(ids) and offsets[position][0] < start:
            position += 1
        while position < len(ids) and offsets[position][1] <= end:
            labels[position] = ids[position]
            position += 1
    return labels
