"""Turns of a chat under one spelling: `role`, `content`, `tool_calls`."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from core.data.examples import Message

_ROLE_NAMES = {
    "system": ("system", "developer", "system_prompt", "system_message"),
    "user": (
        "user", "human", "prompter", "customer", "usr", "question", "instruction", "input", "query",
        "prompt", "client",
    ),
    "assistant": (
        "assistant", "gpt", "bot", "chatgpt", "model", "ai", "chatbot", "chat_bot", "bing", "bard",
        "claude", "gemini", "llm", "openai", "answer", "response", "output", "reply", "agent",
        "ai_assistant", "function_call", "tool_call",
    ),
    "tool": (
        "tool", "function", "observation", "tool_response", "function_response", "ipython",
        "tool_result", "tool_output", "function_result",
    ),
}  # fmt: skip
_PLAIN_ROLES = frozenset(_ROLE_NAMES)
_TEXTS = frozenset(("content", "value", "text", "tool_calls"))
ROLE_OF = {name: role for role, names in _ROLE_NAMES.items() for name in names}
_MODEL = re.compile(r"gpt[-_ .\d]")
"""ShareGPT's pages name the model that answered: `gpt-4`."""
_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
_KEPT = ("name", "tool_call_id", "weight", "reasoning_content", "thinking", "reasoning")


class Unusable(Exception):
    """A row that cannot be trained on: the problem's code and the reason in words."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


def read_turns(value: Any, column: str) -> tuple[Message, ...]:
    """The turns in a `messages` or `conversations` column."""
    turns = parse_embedded(value)
    if turns is None:
        raise Unusable("missing-field", f"{column} is missing or null")
    if not isinstance(turns, list):
        raise Unusable("missing-field", f"{column} is not a list of turns")
    if _are_plain(turns):
        return tuple(turns)
    turns = _parted(turns)
    return tuple([_read_turn(turn, position) for position, turn in enumerate(turns, 1)])


def are_turns(value: Any) -> bool:
    """Whether this is a list of turns, by what its first looks like."""
    turns = parse_embedded(value)
    first = turns[0] if isinstance(turns, list) and turns else None
    if not isinstance(first, dict):
        return False
    return ("role" in first or "from" in first) and not _TEXTS.isdisjoint(first)


def is_sharegpt(value: Any) -> bool:
    """Whether these are turns in ShareGPT's spelling."""
    turns = parse_embedded(value)
    if not isinstance(turns, list) or not turns:
        return False
    first = turns[0]
    return isinstance(first, dict) and "role" not in first and "from" in first


def read_transcript(text: str) -> list[Message] | None:
    """`Human: … Assistant: …` as turns; None for any other text."""
    before, *parts = _SPEAKER.split(text.strip())
    if before.strip() or len(parts) < 4:
        return None
    return [
        {"role": ROLE_OF.get(name.lower(), "assistant"), "content": said.strip()}
        for name, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def is_weightless(message: Message) -> bool:
    """Whether this answer is there to be read only: `weight: 0`, in OpenAI's format."""
    return message.get("weight") in (0, 0.0) and "weight" in message


def _parted(turns: list[Any]) -> list[Any]:
    """Turns that hold what was asked and what was answered, as two turns each."""
    parted: list[Any] = []
    for turn in turns:
        sides = _sides(turn) if isinstance(turn, dict) else None
        parted += sides or [turn]
    return parted


def _sides(turn: dict[str, Any]) -> list[Message] | None:
    if "role" in turn or "from" in turn:
        return None
    roles = {role_of(name): name for name in turn if role_of(name) in ("user", "assistant")}
    if len(roles) < 2:
        return None
    return [{"role": role, "content": turn[roles[role]]} for role in ("user", "assistant")]


def role_of(spelled: str) -> str | None:
    """The usual name of a role; None for one that is not known."""
    name = spelled.strip().lower()
    known = ROLE_OF.get(name) or ROLE_OF.get(re.sub(r"[-\s]+", "_", name))
    return known or ("assistant" if _MODEL.match(name) else None)


def _are_plain(turns: list[Any]) -> bool:
    """Whether all turns are as most are: a role by its usual name and a text, nothing else."""
    try:
        for turn in turns:
            if (
                len(turn) != 2
                or turn["role"] not in _PLAIN_ROLES
                or type(turn["content"]) is not str
            ):
                return False
    except (TypeError, KeyError):
        return False
    return True


def _read_turn(turn: Any, position: int) -> Message:
    if not isinstance(turn, dict):
        raise Unusable("missing-field", f"turn {position} is not an object")
    spelled = turn.get("role", turn.get("from"))
    role = role_of(spelled) if isinstance(spelled, str) else None
    if spelled is None:
        raise Unusable("missing-field", f"turn {position} has no role")
    if role is None:
        raise Unusable("unknown-role", f"turn {position} has the role {str(spelled)[:40]!r}")
    content = turn["content"] if "content" in turn else turn.get("value", turn.get("text"))
    calls = _tool_calls(turn.get("tool_calls"), position)
    if content is None and not calls and "function_call" in turn:
        calls = _tool_calls([{"function": turn["function_call"]}], position)
    if content is None and not calls:
        raise Unusable("missing-field", f"turn {position} has no content")
    text = "" if content is None else as_text(content, f"the content of turn {position}")
    message: Message = {"role": role, "content": text}
    if calls:
        message["tool_calls"] = calls
    message.update({key: turn[key] for key in _KEPT if turn.get(key) is not None})
    return message


def _tool_calls(value: Any, position: int) -> list[dict[str, Any]]:
    """Tool calls with their arguments as an object, which is what chat templates expect."""
    if not value:
        return []
    if not isinstance(value, list):
        raise Unusable("missing-field", f"tool_calls of turn {position} is not a list")
    calls = []
    for call in value:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Unusable("missing-field", f"a tool call of turn {position} has no name")
        arguments = parse_embedded(function.get("arguments", {}))
        whole = {"type": "function", "function": {**function, "arguments": arguments}}
        calls.append({**whole, **({"id": call["id"]} if "id" in call else {})})
    return calls


def parse_tools(value: Any) -> tuple[dict[str, Any], ...]:
    tools = parse_embedded(value)
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Unusable("missing-field", "tools is not a list of objects")
    return tuple(tools)


def parse_embedded(value: Any) -> Any:
    """Columns of CSV files hold JSON as text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def prompt_turns(value: Any, column: str) -> tuple[Message, ...]:
    """A prompt: turns, or the text of one."""
    if isinstance(value, list):
        return read_turns(value, column)
    text = as_text(value, column)
    if not text.strip():
        raise Unusable("missing-field", f"{column} is empty")
    return ({"role": "user", "content": text},)


def completion_turns(value: Any, column: str) -> tuple[Message, ...]:
    """An answer: turns, or the text of one."""
    if isinstance(value, list):
        return read_turns(value, column)
    return ({"role": "assistant", "content": as_text(value, column)},)


def as_text(value: Any, column: str) -> str:
    """Text, also from numbers and from OpenAI's lists of text parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_part(part, column) for part in value)
    if value is None:
        raise Unusable("missing-field", f"{column} is null")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise Unusable("missing-field", f"{column} is {type(value).__name__}, not text")


def _part(part: Any, column: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    raise Unusable("missing-field", f"{column} holds a part of type {kind!r:.40}, not text")
