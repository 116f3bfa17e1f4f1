"""What is for evaluation by its name is not trained on: in folders, in lists, among named files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePath

import pytest

from core.data.inspection import inspect
from core.data.parts import part_of, part_of_path
from core.data.prepared import prepare
from core.data.report import Problem, Report
from core.data.sources import resolve
from core.data.tokenizer import Tokenizer, load_tokenizer
from core.recipe import parse_recipe
from core.runs.identity import source_digests
from tests.core.data.conftest import MakeFolder
from tests.core.data.test_tokenizer import CHATML, SPECIALS

Fill = Callable[..., Path]
COUNTS = {"train": 60, "test": 7, "validation": 5}


@pytest.fixture
def fill(tmp_path: Path) -> Fill:
    """A folder with files of rows: so many in each, none the same."""

    def fill(**files: int) -> Path:
        folder = tmp_path / "data"
        for name, count in files.items():
            path = folder / f"{name.replace('__', '/')}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [{"prompt": f"{name} {n}?", "completion": f"{name} {n}."} for n in range(count)]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return fill


@pytest.fixture
def tokenizer(make_folder: MakeFolder) -> Tokenizer:
    return load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))


def problem(report: Report, code: str) -> Problem | None:
    return next((one for one in report.problems if one.code == code), None)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train-00000-of-00003.parquet", "train"), ("Training.jsonl", "train"),
        ("my_test.csv", "test"), ("test1.jsonl", "test"), ("TestSet.json", "test"),
        ("eval.jsonl", "test"), ("held_out.jsonl", "test"), ("heldout.jsonl", "test"),
        ("dev.jsonl.gz", "validation"), ("chat-val.jsonl", "validation"), ("valid", "validation"),
        ("contest.jsonl", None), ("testimonials.jsonl", None), ("trains.jsonl", None),
        ("values.csv", None), ("développement.jsonl", None), ("upheld.out", None), ("set", None),
        ("eval_suite_train.jsonl", "train"),
    ],
)  # fmt: skip
def test_what_a_name_means(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_a_folder_tells_where_the_file_does_not() -> None:
    assert part_of_path(PurePath("data/test/0000.parquet")) == "test"
    assert part_of_path(PurePath("test/train.jsonl")) == "train"
    assert part_of_path(PurePath("data/0000.parquet")) is None


@pytest.mark.parametrize(
    ("files", "rows", "held_out", "lost"),
    [
        ({"train": 60, "test": 7}, 60, ["test"], []),
        ({"train": 60, "test": 7, "validation": 5}, 60, ["validation"], ["test"]),
        ({"train": 60, "more": 9}, 69, [], []),
        ({"all": 60, "dev": 7}, 60, ["dev"], []),
        ({"train": 60, "dev": 7, "notes": 5}, 60, ["dev"], ["notes"]),
        ({"train__0": 40, "train__1": 20, "test__0": 7}, 60, ["test/0"], []),
    ],
)
def test_a_folder_with_parts(
    fill: Fill, files: dict[str, int], rows: int, held_out: list[str], lost: list[str]
) -> None:
    folder = fill(**files)
    report = inspect([str(folder)])
    assert report.rows == rows
    assert report.held_out == tuple(f"{folder / name}.jsonl" for name in held_out)
    assert report.as_json()["held_out"] == report.held_out
    found = problem(report, "set-apart")
    assert (found is not None) == bool(held_out)
    if found is not None:
        assert f"for evaluation, and so it is not trained on: {held_out[0]}.jsonl." in found.message
        assert ("Not read at all" in found.message) == bool(lost)
        assert all(f"{name}.jsonl" in found.message for name in lost)
        assert (found.severity == "warning") == ("notes" in lost)


def test_the_files_to_evaluate_on_are_found_in_the_folder(fill: Fill) -> None:
    folder = fill(train=60, test=7)
    assert [file.path.name for file in resolve([str(folder)], to_evaluate=True).files] == [
        "test.jsonl"
    ]
    report = inspect([str(folder / "train.jsonl")], held_out=[str(folder)])
    assert report.leakage is not None
    assert (report.leakage.rows, report.leakage.exact) == (7, 0)


def test_files_that_are_named_are_read_and_it_is_said(fill: Fill) -> None:
    folder = fill(train=60, test=7)
    report = inspect([str(folder / "train.jsonl"), str(folder / "test.jsonl")])
    assert (report.rows, report.held_out) == (67, ())
    found = problem(report, "named-for-evaluation")
    assert found is not None
    assert found.message.endswith("yet it is trained on: test.jsonl.")
    assert problem(inspect([str(folder / "*.jsonl")]), "named-for-evaluation") is not None
    assert problem(inspect([str(folder / "test.jsonl")]), "named-for-evaluation") is None


def test_a_folder_that_has_nothing_else_is_read_and_it_is_said(fill: Fill) -> None:
    folder = fill(test=7, validation=5)
    report = inspect([str(folder)])
    assert (report.rows, report.held_out) == (12, ())
    assert problem(report, "named-for-evaluation") is not None


def test_a_file_that_is_named_beside_its_folder_is_not_held_out(fill: Fill) -> None:
    folder = fill(train=60, test=7)
    source = resolve([str(folder), str(folder / "test.jsonl")])
    assert [file.path.name for file in source.files] == ["train.jsonl", "test.jsonl"]
    assert source.held_out == ()


def prepared_rows(folder: Path, tokenizer: Tokenizer, **data: object) -> tuple[set[str], set[str]]:
    """The prompts that are trained on and those held out, by the word they begin with."""
    tree = {"model": "m", "data": {"train": [str(folder)], **data}}
    made = prepare(parse_recipe(tree, "here"), tokenizer, folder.parent / "encoded")
    texts = ([tokenizer.decode(row.input_ids) for row in rows] for rows in (made.train, made.eval))
    train, held_out = (
        {name for name in COUNTS if any(f"{name} " in text for text in found)} for found in texts
    )
    return train, held_out


def test_what_is_trained_on_and_what_is_held_out(fill: Fill, tokenizer: Tokenizer) -> None:
    folder = fill(train=60, test=7)
    assert prepared_rows(folder, tokenizer) == ({"train"}, {"test"})
    assert prepared_rows(folder, tokenizer, eval_by_name=False) == ({"train"}, {"train"})
    other = [str(fill(validation=5) / "validation.jsonl")]
    assert prepared_rows(folder, tokenizer, eval=other) == ({"train"}, {"validation"})


def test_another_session_sees_that_held_out_rows_have_changed(fill: Fill) -> None:
    folder = fill(train=60, test=7)
    data = parse_recipe({"model": "m", "data": {"train": [str(folder)]}}, "here").data
    assert set(source_digests(data)) == {f"{folder / name}.jsonl" for name in ("train", "test")}
