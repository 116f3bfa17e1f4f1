"""What the names of columns say: which role each has in a row."""

from __future__ import annotations

import re
from collections.abc import Mapping

ROLES: dict[str, tuple[str, ...]] = {
    "messages": (
        "messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns",
    ),
    "prompt": (
        "prompt", "question", "instruction", "query", "user", "human", "input", "request",
        "problem", "task", "source", "source_text", "ask", "q",
    ),
    "completion": (
        "completion", "response", "answer", "output", "target", "assistant", "reply", "solution",
        "gpt", "bot", "ai", "target_text", "generation", "a", "summary", "highlight",
    ),
    "chosen": (
        "chosen", "preferred", "accepted", "chosen_response", "chosen_answer",
        "preferred_response", "preferred_answer",
    ),
    "rejected": (
        "rejected", "dispreferred", "rejected_response", "rejected_answer",
        "dispreferred_response", "dispreferred_answer",
    ),
    "label": ("label", "desirable", "thumbs_up"),
    "text": ("text", "content", "document", "body", "article"),
    "input": ("input", "context", "passage"),
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
    "tools": ("tools", "functions"),
}  # fmt: skip
"""Role → the column names it is known by, the most telling first (compared without case, spaces
and punctuation, in the singular). Also the roles that a mapping may name."""

_WORDS = {
    "prompt": frozenset((
        "prompt", "question", "instruction", "query", "request", "user", "human", "input",
    )),
    "completion": frozenset((
        "completion", "response", "answer", "output", "reply", "assistant", "model", "bot", "ai",
        "gpt", "llm",
    )),
    "input": frozenset(("input", "context")),
}  # fmt: skip
"""What a name of several words may be made of, such as `userMessage` or `Correct Answer` …"""
_ADDED = frozenset((
    "text", "message", "msg", "content", "body", "string", "str", "raw", "full", "final",
    "correct", "best", "gold", "expected", "generated", "turn", "utterance",
))  # fmt: skip
"""… together with these. `model_input` has words of two roles, and so none."""
_WRITTEN_TALK = frozenset(("dialog", "dialogue", "conversation", "chat"))
"""Names of columns that hold a conversation as a list of turns, or as one text."""
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_GAP = re.compile(r"[\W_]+")


def plain_name(column: str) -> str:
    """The name in small letters and the singular, with `_` between its words."""
    words = _GAP.sub("_", _HUMP.sub("_", column.strip()).lower()).strip("_").split("_")
    return "_".join([word[:-1] if _is_plural(word) else word for word in words])


def _is_plural(word: str) -> bool:
    return len(word) > 3 and word.endswith("s") and not word.endswith("ss")


_BY_ROLE = {role: tuple(dict.fromkeys(map(plain_name, names))) for role, names in ROLES.items()}
KNOWN_NAMES = frozenset(name for names in _BY_ROLE.values() for name in names)


def roles_of(columns: tuple[str, ...], *, talk_is_text: bool = False) -> dict[str, str]:
    """Role → column, every column in one role at most. `talk_is_text`: a column such as
    `dialogue` holds one text."""
    plain: dict[str, str] = {}
    for column in columns:
        plain.setdefault(plain_name(column), column)
    found: dict[str, str] = {}
    for role, names in _BY_ROLE.items():
        if role == "messages" and talk_is_text:
            continue
        _take(role, [name for name in names if name in plain], plain, found)
    for role, words in _WORDS.items():
        _take(role, [name for name in plain if _is_made_of(name, words)], plain, found)
    talks = [name for name in plain if talk_is_text and name in _WRITTEN_TALK]
    _take("text", talks, plain, found)
    if "completion" in found and "prompt" not in found:  # such as context and response
        _hand_over(found)
    return found


def _take(role: str, names: list[str], plain: Mapping[str, str], found: dict[str, str]) -> None:
    free = [plain[name] for name in names if plain[name] not in found.values()]
    if free:
        found.setdefault(role, free[0])


def _hand_over(found: dict[str, str]) -> None:
    """Let what stands before the answer be the prompt."""
    role = next((role for role in ("input", "text") if role in found), None)
    if role is not None:
        found["prompt"] = found.pop(role)


def _is_made_of(name: str, words: frozenset[str]) -> bool:
    parts = set(name.split("_"))
    return parts <= words | _ADDED and not words.isdisjoint(parts)


def may_be_text(column: str) -> bool:
    """Whether a column that is named as one of turns may hold one text instead."""
    return plain_name(column) in _WRITTEN_TALK
