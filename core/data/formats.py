"""What a row's columns mean: recognised from their names and content, or told by a mapping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.data.columns import ROLES, may_be_text, plain_name, roles_of
from core.data.conversation import (
    Unusable,
    are_turns,
    as_text,
    completion_turns,
    is_sharegpt,
    parse_embedded,
    parse_tools,
    prompt_turns,
    read_transcript,
    read_turns,
)
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
from core.errors import UserError

_SYNONYMS = {
    "user": "prompt", "instruction": "prompt", "question": "prompt", "assistant": "completion",
    "answer": "completion", "response": "completion", "output": "completion",
    "context": "input", "conversations": "messages",
}  # fmt: skip
RECOGNITION_ROWS = 200


@dataclass(frozen=True, slots=True)
class Layout:
    """The format of a row and, by role, the columns that it is read from."""

    format: FormatName
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recognition:
    """What the first rows of a source are. `suggestion` (role → column) is for `unknown` only."""

    format: FormatName
    columns: tuple[str, ...]
    suggestion: dict[str, str] = field(default_factory=dict)


class Recogniser:
    """Finds the layout of rows. With a mapping all rows have the layout that it says."""

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        self._mapping = check_mapping(mapping or {})
        self._known: dict[tuple[str, ...], Layout] = {}
        self._last: Layout | None = None

    def layout(self, value: dict[str, Any]) -> Layout:
        keys = tuple(value)
        layout = self._known.get(keys)
        if layout is None:
            layout = self._known[keys] = (
                _mapped_layout(self._mapping) if self._mapping else _layout(keys)
            )
        if layout.format == "messages":
            turns = value.get(layout.columns["messages"])
            if type(turns) is str and not self._mapping:
                return _layout_of_talk(keys, layout, turns)
            if is_sharegpt(turns):
                return self._sharegpt(layout.columns)
        elif layout.format == "unknown" and not self._mapping:
            return _layout_by_content(value) or layout
        return layout

    def _sharegpt(self, columns: Mapping[str, str]) -> Layout:
        if self._last is None or self._last.columns is not columns:
            self._last = Layout("sharegpt", columns)
        return self._last


def recognise(records: Iterable[Record], mapping: Mapping[str, str] | None = None) -> Recognition:
    """The format that most of the first rows have."""
    recogniser = Recogniser(mapping)
    formats: Counter[FormatName] = Counter()
    columns: dict[str, None] = {}
    first: dict[str, Any] = {}
    for record, _ in zip(records, range(RECOGNITION_ROWS), strict=False):
        if record.problem is None:
            first = first or record.value
            columns.update(dict.fromkeys(record.value))
            formats[recogniser.layout(record.value).format] += 1
    known = Counter({name: count for name, count in formats.items() if name != "unknown"})
    if not known:
        return Recognition("unknown", tuple(columns), suggest(first))
    return Recognition(known.most_common(1)[0][0], tuple(columns))


def check_mapping(mapping: Mapping[str, str]) -> dict[str, str]:
    """The mapping with its roles under their one name. UserError for a role there is not."""
    checked = {}
    for role, column in mapping.items():
        name = _SYNONYMS.get(role.strip().lower(), role.strip().lower())
        if name not in ROLES:
            raise UserError(f"“{role}” is not a role.", f"The roles are {', '.join(ROLES)}.")
        checked[name] = column
    if checked and _format_of(checked) == "unknown":
        raise UserError(
            "The mapping does not say what to train on.",
            "Map text, messages, or prompt and completion.",
        )
    return checked


def suggest(value: Mapping[str, Any]) -> dict[str, str]:
    """A mapping for columns with strange names: by parts of the names, else by their length."""
    texts = {key: item for key, item in value.items() if isinstance(item, str) and item.strip()}
    found: dict[str, str] = {}
    for role in ("prompt", "completion"):
        for key in texts:
            words = plain_name(key).split("_")
            if key not in found.values() and any(name in words for name in ROLES[role]):
                found.setdefault(role, key)
    if len(found) == 2:
        return found
    if len(texts) == 1:
        return {"text": next(iter(texts))}
    rest = sorted(texts, key=lambda key: -len(texts[key]))[:2]
    if len(rest) < 2:
        return {}
    order = [key for key in value if key in rest]
    return {"prompt": order[0], "completion": order[1]}


def normalise(value: dict[str, Any], layout: Layout) -> Example:
    """The row as an example. `Unusable` when it lacks what its format needs."""
    columns = layout.columns
    match layout.format:
        case "messages" | "sharegpt":
            messages = read_turns(value.get(columns["messages"]), columns["messages"])
            return Conversation(_with_system(messages, value, columns), _tools(value, columns))
        case "text":
            return Text(_required(value, columns["text"]))
        case "preference":
            return _preference(value, columns)
        case "kto":
            return _judged(value, columns)
        case "alpaca" | "prompt-completion":
            return _pair(value, columns)
    raise Unusable("missing-field", f"no column is recognised: {', '.join(map(str, value))}")


def _pair(value: dict[str, Any], columns: Mapping[str, str]) -> Conversation:
    prompt = value.get(columns["prompt"])
    messages: tuple[Message, ...]
    if isinstance(prompt, list):
        messages = read_turns(prompt, columns["prompt"])
    else:
        texts = [as_text(prompt, columns["prompt"])]
        if "input" in columns and (extra := value.get(columns["input"])) not in (None, ""):
            texts.append(as_text(extra, columns["input"]))
        text = "\n\n".join(part for part in texts if part.strip())
        messages = (*_history(value, columns), *prompt_turns(text, columns["prompt"]))
    answer = completion_turns(_present(value, columns["completion"]), columns["completion"])
    return Conversation((*_with_system(messages, value, columns), *answer), _tools(value, columns))


def _preference(value: dict[str, Any], columns: Mapping[str, str]) -> Preference:
    chosen, rejected = _better_or_worse(value, columns, "chosen", "rejected")
    if "prompt" in columns:
        prompt = prompt_turns(_present(value, columns["prompt"]), columns["prompt"])
    else:  # the prompt is what both have in common at their beginning
        same = 0
        while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
            same += 1
        prompt, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    if not prompt:
        raise Unusable("missing-field", "there is no prompt before the two answers")
    chosen, rejected = _without(prompt, chosen), _without(prompt, rejected)
    return Preference(_with_system(prompt, value, columns), chosen, rejected)


def _better_or_worse(
    value: dict[str, Any], columns: Mapping[str, str], *roles: str
) -> Iterator[tuple[Message, ...]]:
    """The answers; without a prompt of their own they may be whole transcripts."""
    for role in roles:
        answer = _present(value, columns[role])
        if "prompt" not in columns and isinstance(answer, str):
            answer = read_transcript(answer) or answer
        yield completion_turns(answer, columns[role])


def _judged(value: dict[str, Any], columns: Mapping[str, str]) -> Judged:
    label = _present(value, columns["label"])
    if isinstance(label, str):
        label = {"true": True, "1": True, "false": False, "0": False}.get(label.strip().lower())
    if label not in (True, False, 0, 1):
        raise Unusable("missing-field", f"{columns['label']} is neither true nor false")
    prompt = prompt_turns(_present(value, columns["prompt"]), columns["prompt"])
    answer = completion_turns(_present(value, columns["completion"]), columns["completion"])
    return Judged(_with_system(prompt, value, columns), answer, bool(label))


def _without(prompt: tuple[Message, ...], answer: tuple[Message, ...]) -> tuple[Message, ...]:
    """Answers that repeat the prompt's turns (as some data sets have them), without these."""
    repeated = len(answer) > len(prompt) and answer[: len(prompt)] == prompt
    return answer[len(prompt) :] if repeated else answer


def _history(value: dict[str, Any], columns: Mapping[str, str]) -> tuple[Message, ...]:
    """Alpaca's earlier turns: pairs of what was asked and answered."""
    pairs = parse_embedded(value.get(columns.get("history", ""))) or []
    if not isinstance(pairs, list) or any(
        not isinstance(pair, list) or len(pair) != 2 for pair in pairs
    ):
        raise Unusable("missing-field", "history is not a list of pairs")
    return tuple(
        {"role": role, "content": as_text(text, "history")}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    )


def _with_system(
    messages: tuple[Message, ...], value: dict[str, Any], columns: Mapping[str, str]
) -> tuple[Message, ...]:
    system = value.get(columns.get("system", ""))
    if not isinstance(system, str) or not system.strip():
        return messages
    if messages and messages[0]["role"] == "system":
        return messages
    return ({"role": "system", "content": system}, *messages)


def _tools(value: dict[str, Any], columns: Mapping[str, str]) -> tuple[dict[str, Any], ...]:
    return parse_tools(value[columns["tools"]]) if value.get(columns.get("tools", "")) else ()


def _present(value: dict[str, Any], column: str) -> Any:
    if value.get(column) is None:
        raise Unusable("missing-field", f"{column} is {'null' if column in value else 'missing'}")
    return value[column]


def _required(value: dict[str, Any], column: str) -> str:
    text = as_text(_present(value, column), column)
    if not text.strip():
        raise Unusable("empty-response", f"{column} is empty")
    return text


def _layout(keys: tuple[str, ...], *, talk_is_text: bool = False) -> Layout:
    columns = roles_of(keys, talk_is_text=talk_is_text)
    if "messages" in columns:
        return Layout("messages", _only(columns, "messages", "system", "tools"))
    if "chosen" in columns and "rejected" in columns:
        return Layout("preference", _only(columns, "prompt", "chosen", "rejected", "system"))
    if "prompt" in columns and "completion" in columns:
        if "label" in columns and columns["prompt"].lower() == "prompt":
            return Layout("kto", _only(columns, "prompt", "completion", "label", "system"))
        kept = _only(columns, "prompt", "completion", "input", "system", "history", "tools")
        plain = {columns["prompt"].lower(), columns["completion"].lower()}
        alpaca = plain == {"instruction", "output"}
        return Layout("alpaca" if alpaca else "prompt-completion", kept)
    if "text" in columns:
        return Layout("text", _only(columns, "text"))
    return Layout("unknown", columns)


def _layout_of_talk(keys: tuple[str, ...], layout: Layout, turns: str) -> Layout:
    """Turns that are a text: JSON, or a dialogue that is to be summed up or answered."""
    if turns.lstrip()[:1] == "[":
        sharegpt = is_sharegpt(turns)
        return Layout("sharegpt", layout.columns) if sharegpt else layout
    if may_be_text(layout.columns["messages"]):
        other = _layout(keys, talk_is_text=True)
        return other if other.format == "prompt-completion" else layout
    return layout


def _layout_by_content(value: Mapping[str, Any]) -> Layout | None:
    """Turns are known by what they look like, whatever their column is called."""
    for column, item in value.items():
        if are_turns(item):
            rest = roles_of(tuple(key for key in value if key != column))
            format: FormatName = "sharegpt" if is_sharegpt(item) else "messages"
            return Layout(format, {"messages": column, **_only(rest, "system", "tools")})
    return None


def _only(columns: Mapping[str, str], *roles: str) -> dict[str, str]:
    return {role: columns[role] for role in roles if role in columns}


def _format_of(columns: Mapping[str, str]) -> FormatName:
    if "messages" in columns:
        return "messages"
    if {"chosen", "rejected"} <= set(columns):
        return "preference"
    if {"prompt", "completion", "label"} <= set(columns):
        return "kto"
    if {"prompt", "completion"} <= set(columns):
        return "prompt-completion"
    return "text" if "text" in columns else "unknown"


def _mapped_layout(mapping: Mapping[str, str]) -> Layout:
    return Layout(_format_of(mapping), mapping)
