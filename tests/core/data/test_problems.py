"""Every code of a problem is found in a row made for it, and in no sound row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.data.inspection import inspect
from core.data.problems import KINDS
from core.data.report import Report
from core.data.tokenizer import Tokenizer, load_tokenizer
from core.paths import presets_root
from tests.core.data.conftest import MakeFolder
from tests.core.data.test_tokenizer import CHATML, SPECIALS

LONG = "This is a sentence that ends well, and it is as long as the others are."
PASSED = ("few-examples",)  # of so small a file


@pytest.fixture
def tokenizer(make_folder: MakeFolder) -> Tokenizer:
    return load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))


def row(*turns: tuple[str, object]) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    return json.dumps({"messages": messages}, ensure_ascii=False)


def asked(answer: str) -> str:
    return row(("user", "What else?"), ("assistant", answer))


END = "of the book asks all of you."
SOUND = [
    row(("user", f"Please add {n} and {n + 7} for me, in words if you can."),
        ("assistant", f"Adding {n} to {n + 7} gives {2 * n + 7}, as exercise {n * 13} {END}"))
    for n in range(60)
]  # fmt: skip
NEARLY = SOUND[3].replace("of you", "of us")
FOUND = [
    ("invalid-json", '{"messages": [{"role"'),
    ("encoding", asked(f"Gr\ufffd\ufffde. {LONG}")),
    ("encoding", asked(f"GrÃ¼Ã\x9fe. {LONG}".replace("\x9f", "Ÿ"))),
    ("encoding", asked(f"I donâ€™t know. {LONG}")),
    ("not-an-object", "[1]"),
    ("mixed-formats", json.dumps({"text": "x y z"})),
    ("missing-field", json.dumps({"messages": None})),
    ("unknown-role", row(("narrator", "x"), ("assistant", "y"))),
    ("no-assistant-turn", row(("user", "x"))),
    ("bad-turn-order", row(("user", "x"), ("user", "y"), ("assistant", LONG))),
    ("empty-response", asked(" \n")),
    ("too-long", row(("user", "x " * 200), ("assistant", LONG))),
    ("no-trained-tokens", row(("user", "x " * 600), ("assistant", LONG))),
    ("duplicate", SOUND[3]),
    ("near-duplicate", NEARLY),
    ("conflicting-answers", SOUND[3].replace("Adding 3 to 10 gives 13", "Nobody can tell you")),
    ("response-length-outlier", asked(LONG * 60)),
    ("inconsistent-format", ""),
    ("cut-off", asked("This sentence goes on for quite a long while and then stops in the mid")),
    ("refusal", asked("I'm sorry, but I can't assist with that, as it goes against my rules.")),
    ("control-characters", asked(f"\x1b[2J {LONG}")),
    ("secret", asked(f"The key is AKIAIOSFODNN7EXAMPLQ. {LONG}")),
    ("pii", asked(f"Write to jane.doe@gmail.com. {LONG}")),
]


def look(folder: Path, lines: list[str], tokenizer: Tokenizer | None = None, **more: Any) -> Report:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return inspect([str(path)], tokenizer=tokenizer, max_length=400, **more)


def codes(report: Report) -> set[str]:
    return {problem.code for problem in report.problems} - set(PASSED)


def test_sound_rows_have_none(tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert codes(look(tmp_path, SOUND, tokenizer)) == set()


@pytest.mark.parametrize(("code", "line"), FOUND, ids=[code for code, _ in FOUND])
def test_found(tmp_path: Path, tokenizer: Tokenizer, code: str, line: str) -> None:
    lines = [*SOUND, line]
    if code == "inconsistent-format":
        lines = [row(("user", f"Turn {n}"), ("assistant", json.dumps({"n": n}))) for n in range(60)]
        lines.append(row(("user", "Turn it"), ("assistant", "Sure, I turn it.")))
    report = look(tmp_path, lines, tokenizer)
    problem = next(one for one in report.problems if one.code == code)
    assert problem.rows[-1] == 61
    assert problem.count == len(problem.rows) <= 2
    assert problem.message
    assert problem.remedy
    assert sum(report.ledger.values()) == report.rows == 61


def test_the_first_row_that_has_it_is_told_in_words(tmp_path: Path) -> None:
    strange = row(("nar\x1b[2Jrator", "x"), ("assistant", "y"))
    report = look(tmp_path, [*SOUND, strange, row(("poet", "x"))])
    (problem,) = (one for one in report.problems if one.code == "unknown-role")
    assert "nar" in problem.example
    assert "\x1b" not in problem.example
    assert "poet" not in problem.example


def test_leakage_both_ways(tmp_path: Path) -> None:
    held_out = tmp_path / "held.jsonl"
    held_out.write_text("\n".join([SOUND[0], NEARLY]))
    report = look(tmp_path, SOUND, held_out=[str(held_out)])
    assert report.leakage is not None
    assert (report.leakage.exact, report.leakage.near) == (1, 1)
    (problem,) = (one for one in report.problems if one.code == "leakage")
    assert problem.rows == (1, 4)


def test_every_code_is_tried() -> None:
    needs_more = {
        "few-examples", "leakage", "no-stop-token", "unshown-tool-call", "unread-lists",
        "set-apart", "named-for-evaluation",
    }  # fmt: skip
    assert {code for code, _ in FOUND} | needs_more == set(KINDS)


def weighed(*weights: float) -> str:
    turns = [
        turn
        for n, weight in enumerate(weights)
        for turn in (
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": f"It is {n}, of course.", "weight": weight},
        )
    ]
    return json.dumps({"messages": turns})


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize(
    ("train_on", "lost"), [("assistant", [61]), ("last", [61, 62]), ("all", [])]
)
def test_weights_of_zero_teach_nothing_with_or_without_a_tokenizer(
    tmp_path: Path, tokenizer: Tokenizer, counts: bool, train_on: str, lost: list[int]
) -> None:
    lines = [*SOUND, weighed(0, 0.0), weighed(1, 0), weighed(0, 1)]
    report = look(tmp_path, lines, tokenizer if counts else None, train_on=train_on)
    expected = {"usable": 63 - len(lost), **({"no-trained-tokens": len(lost)} if lost else {})}
    assert report.ledger == expected
    found = [one for one in report.problems if one.code == "no-trained-tokens"]
    assert [list(one.rows) for one in found] == ([lost] if lost else [])
    assert [one.severity for one in found] == (["error"] if lost else [])
    assert all("weight 0" in one.example for one in found)


def test_a_source_that_only_has_weights_of_zero_cannot_be_trained_on(tmp_path: Path) -> None:
    report = look(tmp_path, [weighed(0)] * 3)
    assert report.error is not None
    assert "weight" in report.error


def test_a_few_rows_are_told_to_be_few(tmp_path: Path) -> None:
    assert {problem.code for problem in look(tmp_path, SOUND).problems} == {"few-examples"}


def test_the_demo_has_no_problems() -> None:
    report = inspect([str(presets_root() / "demo" / "train.jsonl")])
    assert report.problems == ()
    assert report.usable == report.rows > 500
