"""The pass: every row counted once, every problem with its code and its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.data import inspection
from core.data.inspection import inspect
from core.data.report import Problem, Report, report_from_wire
from core.data.summary import histogram, percentile
from core.data.tokenizer import Tokenizer, load_tokenizer
from core.errors import UserError
from tests.core.data.conftest import MakeFolder
from tests.core.data.test_tokenizer import CHATML, SPECIALS
from tui.commands.report_text import report_lines
from tui.widgets.statistics import ledger_lines


@pytest.fixture
def tokenizer(make_folder: MakeFolder) -> Tokenizer:
    return load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in pairs]}


def ask(question: str, answer: str) -> dict[str, Any]:
    return turns(("user", question), ("assistant", answer))


def write(path: Path, rows: list[Any]) -> list[str]:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [str(path)]


def problem(report: Report, code: str) -> Problem:
    return next(problem for problem in report.problems if problem.code == code)


GOOD = [ask(f"question {n}", f"answer number {n}") for n in range(30)]


def test_what_only_a_sample_tells_is_told_as_an_estimate(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger holds what every row was looked at for, and its sum is the number of rows."""
    rows = [ask(f"q{n}", "long " * 60) for n in range(300)]
    rows += [ask(f"p{n} " + "long " * 60, "a") for n in range(200)]
    rows += [ask(f"r{n}", f"{n}") for n in range(500)]
    rows += [turns(("user", f"s{n}")) for n in range(40)]
    source = write(tmp_path / "a.jsonl", rows)
    exact = inspect(source, tokenizer=tokenizer, max_length=64)
    assert exact.estimate is None
    assert exact.ledger == {
        "usable": 500, "truncated": 300, "no-trained-tokens": 200, "no-assistant-turn": 40
    }  # fmt: skip
    monkeypatch.setattr(inspection, "_ALL_ROWS", 500)
    monkeypatch.setattr(inspection, "SAMPLED_ROWS", 400)
    sampled = inspect(source, tokenizer=tokenizer, max_length=64)
    assert sampled.ledger == {"usable": 1000, "no-assistant-turn": 40}
    assert sampled.rows == sum(sampled.ledger.values()) == 1040
    found = sampled.estimate
    assert found is not None
    assert found.of == 1000
    assert 300 < found.rows < 1000
    assert abs(found.truncated - 300) < found.margin_rows < 60
    assert abs(found.no_trained_tokens - 200) < found.margin_rows
    assert report_from_wire(json.loads(json.dumps(sampled.as_json() | {"complete": True})))
    text = "\n".join(report_lines(sampled))
    assert f"about {found.truncated} are truncated and about {found.no_trained_tokens} have" in text
    assert f"from a sample of {found.rows} rows, each ± {found.margin_rows} rows, 95" in text
    shown = "\n".join(line.plain for line in ledger_lines(sampled))
    assert "usable as they are" not in shown
    assert "Of the usable, estimated" in shown
    assert f"{found.truncated}  cut at their end" in shown
    assert f"from a sample of {found.rows}: ± {found.margin_rows} rows" in shown


@pytest.mark.parametrize(
    ("row", "code", "usable"),
    [
        ("{nope", "invalid-json", False),
        ("[]", "not-an-object", False),
        ('{"messages": [{"role": "user", "content": "\\ud800"}]}', "encoding", False),
        (turns(("narrator", "x"), ("assistant", "y")), "unknown-role", False),
        (turns(("user", "x")), "no-assistant-turn", False),
        (turns(), "no-assistant-turn", False),
        (turns(("assistant", "x"), ("user", "y"), ("assistant", "z")), "bad-turn-order", True),
        (turns(("user", "x"), ("user", "y"), ("assistant", "z")), "bad-turn-order", True),
        (turns(("user", "x"), ("assistant", "y"), ("user", "z")), "bad-turn-order", True),
        (ask("x", "  "), "empty-response", False),
        (turns(("user", "x"), ("assistant", ""), ("user", "y"), ("assistant", "z")),
         "empty-response", True),
        ({"other": 1}, "missing-field", False),
        ({"messages": None}, "missing-field", False),
        ({"text": "plain"}, "mixed-formats", False),
        ({"prompt": "x", "completion": "y"}, "mixed-formats", True),
        (ask("x", "\x1b]0;evil\x07"), "control-characters", True),
        (ask("x\u202e", "y"), "control-characters", True),
        (ask("x", "na\ufffdve"), "encoding", True),
        (ask("x", "I'm sorry, but I can't assist with that."), "refusal", True),
        (ask("x", "As an AI language model, I do not"), "refusal", True),
        (ask("question 3", "answer number 3"), "duplicate", True),
        (ask("x", "long " * 500), "response-length-outlier", True),
    ],
)  # fmt: skip
def test_a_problem_has_its_code_and_row(tmp_path: Path, row: Any, code: str, usable: bool) -> None:
    report = inspect(write(tmp_path / "a.jsonl", [*GOOD[:20], row, *GOOD[20:]]))
    found = problem(report, code)
    assert (found.count, found.rows) == (1, (21,))
    assert found.message.startswith("1 row ")
    assert found.remedy
    assert {p.code for p in report.problems} <= {code, "few-examples", "bad-turn-order"}
    assert report.rows == 31 == sum(report.ledger.values())
    assert report.usable == 30 + usable
    assert report.ledger == ({"usable": 31} if usable else {"usable": 30, code: 1})


def test_conflicting_answers_are_all_named(tmp_path: Path) -> None:
    rows = [ask("same", "yes"), ask("other", "yes"), ask("same", "no"), ask("same", "no")]
    report = inspect(write(tmp_path / "a.jsonl", rows))
    assert problem(report, "conflicting-answers").rows == (1, 3, 4)
    assert problem(report, "duplicate").rows == (4,)


def test_leakage_between_two_sources(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", GOOD)
    held = write(tmp_path / "held.jsonl", [ask("new", "new"), GOOD[7]])
    report = inspect(train, held_out=held)
    assert problem(report, "leakage").rows == (8,)
    assert problem(report, "leakage").severity == "error"


def test_tokens_and_ledger(tmp_path: Path, tokenizer: Tokenizer) -> None:
    long_prompt = ask("word " * 200, "never seen")
    long_answer = ask("q", "word " * 200)
    source = write(tmp_path / "a.jsonl", [*GOOD, "{", long_prompt, long_answer])
    report = inspect(source, tokenizer=tokenizer, max_length=100)
    assert report.ledger == {
        "usable": 30, "truncated": 1, "invalid-json": 1, "no-trained-tokens": 1
    }  # fmt: skip
    assert (report.rows, report.usable) == (33, 31)
    assert problem(report, "too-long").rows == (32, 33)
    assert problem(report, "no-trained-tokens").rows == (32,)
    tokens = report.tokens
    assert tokens is not None
    assert tokens.truncated_rows == 2
    assert tokens.counted_rows == 32
    assert sum(rows for _, rows in tokens.histogram) == 32
    assert tokens.histogram[-1][0] >= tokens.max > 200
    assert 0 < tokens.trained < tokens.total
    assert tokens.p50 <= tokens.p95 <= tokens.p99 <= tokens.max
    assert tokens.cut_at[0] == (128, 2)
    assert tokens.cut_at[-1] == (32768, 0)
    assert dict(tokens.cut_at)[tokens.recommended_length] == 0


def test_says_when_answers_do_not_stop(tmp_path: Path, make_folder: MakeFolder) -> None:
    tokenizer = load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|endoftext|>"))
    report = inspect(write(tmp_path / "a.jsonl", GOOD), tokenizer=tokenizer)
    assert problem(report, "no-stop-token").count == 30


def test_few_examples_are_told(tmp_path: Path) -> None:
    report = inspect(write(tmp_path / "a.jsonl", GOOD))
    assert [(p.code, p.severity, p.count) for p in report.problems] == [
        ("few-examples", "warning", 30)
    ]
    many = inspect(write(tmp_path / "b.jsonl", [ask(f"q {n}", f"a {n}") for n in range(600)]))
    assert many.problems == ()


def test_nothing_usable_says_why(tmp_path: Path) -> None:
    unknown = inspect(write(tmp_path / "a.jsonl", [{"frage": "x", "antwort": "y"}]))
    assert unknown.format == "unknown"
    assert unknown.error is not None
    assert "frage, antwort" in unknown.error
    assert "--map" in unknown.error
    broken = inspect(write(tmp_path / "b.jsonl", ["{", "["]))
    assert broken.error is not None
    assert "JSON" in broken.error
    assert broken.usable == 0
    with pytest.raises(UserError):
        inspect([str(tmp_path / "c.jsonl")])


def test_a_mapping_makes_it_usable(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", [{"frage": "x", "antwort": "y"}])
    report = inspect(source, mapping={"prompt": "frage", "completion": "antwort"})
    assert (report.format, report.usable, report.error) == ("prompt-completion", 1, None)


def test_at_most_twenty_rows_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    report = inspect(write(tmp_path / "a.jsonl", ["{"] * 50 + GOOD))
    found = problem(report, "invalid-json")
    assert (found.count, found.rows) == (50, tuple(range(1, 21)))


def test_the_report_is_the_promised_json(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = write(tmp_path / "a.jsonl", [*GOOD, "{"])
    once, twice = (json.dumps(inspect(source, tokenizer=tokenizer).as_json()) for _ in range(2))
    assert once == twice
    tree = json.loads(once)
    assert {"source", "format", "rows", "usable", "error", "tokens", "problems"} <= set(tree)
    assert {"code", "severity", "count", "rows", "message"} <= set(tree["problems"][0])
    assert {"total", "trained", "p50", "p95", "max", "truncated_rows"} <= set(tree["tokens"])


def test_percentiles_and_histogram() -> None:
    assert percentile([1, 2, 3, 4], 50) == 2
    assert percentile([5], 99) == 5
    assert percentile(list(range(1, 101)), 95) == 95
    assert histogram([1, 2, 30]) == ((2, 2), *((n, 0) for n in range(4, 30, 2)), (30, 1))
