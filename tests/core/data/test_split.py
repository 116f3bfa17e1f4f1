"""The held-out split, and the encoded data of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.data.identity import fingerprints
from core.data.inspection import inspect
from core.data.prepared import is_prepared, load_prepared, prepare
from core.data.split import held_out_rows, split
from core.data.tokenizer import Tokenizer, load_tokenizer
from core.errors import UserError
from core.recipe import DataSection, Recipe
from tests.core.data.conftest import MakeFolder
from tests.core.data.test_inspection import GOOD, ask, turns, write
from tests.core.data.test_tokenizer import CHATML, SPECIALS


@pytest.fixture
def tokenizer(make_folder: MakeFolder) -> Tokenizer:
    return load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))


def recipe(source: list[str], **data: object) -> Recipe:
    return Recipe(model="x", data=DataSection.model_validate({"train": source, **data}))


@pytest.mark.parametrize(
    ("rows", "fraction", "expected"),
    [(0, 0.05, 0), (1, 0.05, 0), (2, 0.05, 0), (5, 0.05, 1), (100, 0.05, 20), (250, 0.05, 50),
     (600, 0.05, 50), (2000, 0.05, 100), (1000, 0.3, 300), (1000, 0.0, 0)],
)  # fmt: skip
def test_how_many_are_held_out(rows: int, fraction: float, expected: int) -> None:
    assert held_out_rows(rows, fraction) == expected


def test_the_split_is_deterministic_and_keeps_groups_together() -> None:
    groups = [number // 3 for number in range(900)]
    train, held = split(groups, 0.1, seed=1)
    assert (train, held) == split(groups, 0.1, seed=1)
    assert held != split(groups, 0.1, seed=2)[1]
    assert sorted(train + held) == list(range(900))
    assert not {groups[at] for at in train} & {groups[at] for at in held}
    assert 90 <= len(held) <= 92
    assert split([7] * 100, 0.1) == (list(range(100)), [])


def test_several_answers_to_one_prompt_stay_on_one_side(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    answered = [ask(f"question {n // 3}", f"answer {n}") for n in range(180)]
    fixed = [ask("Write a limerick.", f"There was number {n}") for n in range(120)]
    source = write(tmp_path / "rows.jsonl", answered + fixed)
    prepared = prepare(recipe(source), tokenizer, tmp_path / "data")
    train, held = ({row.number for row in part} for part in (prepared.train, prepared.eval))
    asked = [{(number - 1) // 3 for number in side if number <= 180} for side in (train, held)]
    assert all(asked)
    assert not asked[0] & asked[1]
    assert any(number > 180 for number in held), "a fixed prompt keeps nothing apart"


def test_hashes_tell_rows_and_prompts_apart() -> None:
    from core.data.formats import Recogniser, normalise

    def example(value: dict):  # type: ignore[no-untyped-def]
        return normalise(value, Recogniser().layout(value))

    a, b = example(ask("q", "a")), example({"prompt": "q", "completion": "a"})
    c = example(ask("q", "c"))
    assert fingerprints(a) == fingerprints(b)
    assert fingerprints(a)[0] != fingerprints(c)[0]
    assert fingerprints(a)[1] == fingerprints(c)[1] != 0
    assert fingerprints(example({"text": "q"}))[1] == 0


def test_prepares_what_the_inspector_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [*GOOD * 2, "{", ask("word " * 100, "x"), ask("q", "word " * 100)]
    source = write(tmp_path / "a.jsonl", rows)
    prepared = prepare(recipe(source, max_length=80), tokenizer, tmp_path / "data")
    report = inspect(source, tokenizer=tokenizer, max_length=80)
    ledger = prepared.ledger
    assert ledger.reasons == report.ledger
    assert ledger.rows == report.rows == sum(ledger.reasons.values())
    assert ledger.train_rows + ledger.eval_rows == report.usable == 61
    assert ledger.eval_rows == 12
    assert ledger.longest == max(len(row.input_ids) for row in prepared.train) <= 80
    seen = {tuple(row.input_ids) for row in prepared.train}
    assert not seen & {tuple(row.input_ids) for row in prepared.eval}
    assert {row.number for row in prepared.held_out} == {row.number for row in prepared.eval}
    held = prepared.held_out[0]
    assert held.messages[-1]["role"] == "user"
    assert held.reference.startswith("answer number")
    assert load_prepared(tmp_path / "data") == prepared
    assert is_prepared(tmp_path / "data")


def test_held_out_data_of_its_own(tmp_path: Path, tokenizer: Tokenizer) -> None:
    train = write(tmp_path / "a.jsonl", GOOD)
    held = write(tmp_path / "b.jsonl", [ask("new", "one"), ask("newer", "two"), "{"])
    prepared = prepare(recipe(train, eval=held, max_rows=10), tokenizer, tmp_path / "data")
    assert len(prepared.train) == 10
    assert [row.reference for row in prepared.held_out] == ["one", "two"]
    assert prepared.ledger.left_out == 20
    assert prepared.ledger.eval_ledger == {"usable": 2, "invalid-json": 1}


def test_only_better_answers_are_trained(tmp_path: Path, tokenizer: Tokenizer) -> None:
    pairs = [{"prompt": f"q{n}", "chosen": "good", "rejected": "bad"} for n in range(10)]
    prepared = prepare(
        recipe(write(tmp_path / "a.jsonl", pairs), eval_fraction=0), tokenizer, tmp_path / "a"
    )
    assert all("good" in tokenizer.decode(row.input_ids) for row in prepared.train)
    assert len(prepared.train) == 10
    judged = [{"prompt": f"q{n}", "completion": "a", "label": n < 4} for n in range(10)]
    prepared = prepare(
        recipe(write(tmp_path / "b.jsonl", judged), eval_fraction=0), tokenizer, tmp_path / "b"
    )
    assert [row.number for row in prepared.train] == [1, 2, 3, 4]


def test_refuses_what_cannot_be_trained(tmp_path: Path, tokenizer: Tokenizer) -> None:
    source = write(tmp_path / "a.jsonl", [turns(("user", "x"))])
    with pytest.raises(UserError, match="The only row in"):
        prepare(recipe(source), tokenizer, tmp_path / "data")
    assert not is_prepared(tmp_path / "data")
    with pytest.raises(UserError):
        load_prepared(tmp_path / "data")
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "ledger.json").write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        load_prepared(tmp_path / "data")


def test_reading_back_needs_no_heavy_library(tmp_path: Path, tokenizer: Tokenizer) -> None:
    prepare(recipe(write(tmp_path / "a.jsonl", GOOD)), tokenizer, tmp_path / "data")
    script = (
        "import sys; from pathlib import Path; from core.data.prepared import load_prepared;"
        f"load_prepared(Path({str(tmp_path / 'data')!r}));"
        "print([m for m in ('torch', 'transformers', 'datasets', 'pyarrow') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_demo_data_come_out_byte_for_byte(tmp_path: Path) -> None:
    from core.paths import presets_root

    demo = presets_root() / "demo"
    subprocess.run([sys.executable, "-P", demo / "make_demo.py", tmp_path], check=True)
    for name in ("train.jsonl", "heldout.jsonl"):
        assert (tmp_path / name).read_bytes() == (demo / name).read_bytes()
    lines = {
        name: [json.loads(line)["messages"] for line in (demo / name).open(encoding="utf-8")]
        for name in ("train.jsonl", "heldout.jsonl")
    }
    assert len(lines["train.jsonl"]) >= 800
    assert len(lines["heldout.jsonl"]) >= 100
    said = [{turn["content"] for row in rows for turn in row} for rows in lines.values()]
    assert not said[0] & said[1]
    report = inspect([str(demo / "train.jsonl")], held_out=[str(demo / "heldout.jsonl")])
    assert report.problems == ()
