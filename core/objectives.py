"""What a model can be made better at: every objective by name, and the rows that it learns from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from core.data.examples import FormatName

ObjectiveName = Literal["sft", "pretrain", "dpo", "kto", "orpo"]


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective. `needs` says in words which rows it takes.

    `sequences` go through the model for every row. `is_compared`: whether what it learns is
    measured against the model as it was before (the reference). `is_of_tokens`: whether its loss
    is a mean over trained tokens, else it is one over rows.
    """

    name: ObjectiveName
    title: str
    about: str
    formats: frozenset[FormatName]
    needs: str
    sequences: int = 1
    is_compared: bool = False
    is_of_tokens: bool = False


_CHAT: frozenset[FormatName] = frozenset(
    {"messages", "sharegpt", "alpaca", "prompt-completion", "text"}
)
_PAIRS: frozenset[FormatName] = frozenset({"preference"})
_JUDGED: frozenset[FormatName] = frozenset({"kto"})

_ALL = (
    Objective("sft", "supervised fine-tuning", "learns the answers",
              _CHAT | _PAIRS | _JUDGED, "rows of any format", is_of_tokens=True),
    Objective("pretrain", "continued pre-training", "learns whole texts, token by token",
              _CHAT, "texts or conversations", is_of_tokens=True),
    Objective("dpo", "DPO", "prefers the better answer to the worse, staying near the base",
              _PAIRS, "rows with a prompt, a chosen and a rejected answer",
              sequences=2, is_compared=True),
    Objective("kto", "KTO", "does more of what was found good and less of what was found bad",
              _JUDGED | _PAIRS, "rows with a prompt, a completion and a label (true or false), "
              "or with a chosen and a rejected answer", sequences=2, is_compared=True),
    Objective("orpo", "ORPO", "learns the better answer and keeps away from the worse, at once",
              _PAIRS, "rows with a prompt, a chosen and a rejected answer", sequences=2),
)  # fmt: skip

OBJECTIVES: dict[ObjectiveName, Objective] = {each.name: each for each in _ALL}
assert tuple(OBJECTIVES) == get_args(ObjectiveName)


def refusal(name: ObjectiveName, found: FormatName) -> str | None:
    """Why this objective cannot learn from rows of this format; None where it can."""
    objective = OBJECTIVES[name]
    if found in objective.formats:
        return None
    return f"{objective.title} needs {objective.needs}; these are {found} rows"


def suggestion(found: FormatName) -> str:
    """The objectives that do learn from such rows."""
    names = [each.name for each in _ALL if found in each.formats]
    return f"Set objective to {' or '.join(names)}, or use other data."
