"""The trainer's ledger of a source is the inspector's, whatever the format and the objective."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.data.inspection import inspect
from core.data.prepared import LEDGER, prepare
from core.data.tokenizer import Tokenizer, load_tokenizer
from core.objectives import OBJECTIVES
from core.recipe import parse_recipe

LENGTH = 40
LONG = "and so on " * 60
Row = dict[str, Any]


def turns(question: str, answer: str) -> list[Row]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def shared(question: str, answer: str) -> list[Row]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


FORMATS: dict[str, Callable[[str, str, int], Row]] = {
    "messages": lambda q, a, n: {"messages": turns(q, a)},
    "sharegpt": lambda q, a, n: {"conversations": shared(q, a)},
    "alpaca": lambda q, a, n: {"instruction": q, "input": "", "output": a},
    "prompt-completion": lambda q, a, n: {"prompt": q, "completion": a},
    "text": lambda q, a, n: {"text": f"{q} {a}" if a else ""},
    "preference": lambda q, a, n: {"prompt": q, "chosen": a, "rejected": f"no {n}"},
    "kto": lambda q, a, n: {"prompt": q, "completion": a, "label": n % 2 == 0},
    "mapped": lambda q, a, n: {"asked": q, "said": a},
}
MAPPING = {"mapped": {"prompt": "asked", "completion": "said"}}
PAIRS = [
    (name, objective)
    for name in FORMATS
    for objective, spec in OBJECTIVES.items()
    if {"mapped": "prompt-completion"}.get(name, name) in spec.formats
]


def lines(name: str) -> list[str]:
    """Sound rows; one that is cut; one whose prompt leaves no room for an answer; an empty answer;
    a row without what it needs; a line that is not JSON; a pair whose one answer has no room."""
    make = FORMATS[name]
    rows = [make(f"say {n}", f"it is {n}", n) for n in range(12)]
    rows += [make("say", f"{LONG} 12", 12), make(LONG, "never seen", 14), make("say", "", 16)]
    rows += [{next(iter(rows[0])): None}]
    if name == "preference":
        rows.append({"prompt": "w " * 28, "chosen": "a", "rejected": "b"})
    return [*map(json.dumps, rows), '{"cut off']


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return load_tokenizer(tiny_model)


@pytest.mark.parametrize(("name", "objective"), PAIRS)
def test_both_count_every_row_alike(
    tokenizer: Tokenizer, tmp_path: Path, name: str, objective: str
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines(name)) + "\n", encoding="utf-8")
    mapping = MAPPING.get(name, {})
    data = {"train": [str(file)], "mapping": mapping, "max_length": LENGTH}
    recipe = parse_recipe({"model": "m", "data": data, "objective": objective}, "test")
    prepared = prepare(recipe, tokenizer, tmp_path / "data")
    report = inspect(
        [str(file)],
        tokenizer=tokenizer,
        max_length=LENGTH,
        train_on=recipe.encodes,
        mapping=mapping,
    )
    written = json.loads((tmp_path / "data" / LEDGER).read_text(encoding="utf-8"))
    assert written["reasons"] == report.as_json()["ledger"]
    assert written["rows"] == report.rows == sum(written["reasons"].values()) == len(lines(name))
    assert report.usable == sum(
        written[key] for key in ("train_rows", "eval_rows", "left_out", "not_learned")
    )
    reasons = set(written["reasons"])
    assert "invalid-json" in reasons
    if objective == "pretrain":
        assert not reasons & {"truncated", "no-trained-tokens"}
    else:
        assert "truncated" in reasons
        assert ("no-trained-tokens" in reasons) == (name != "text")
    assert all(row.trained for row in prepared.train)
    assert max(row.longest for row in prepared.train) <= LENGTH
    if (name, objective) == ("kto", "sft"):
        assert written["not_learned"] == 6
