"""The data service in its child process, through the client that the app uses."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.data.client import DataClient
from core.data.inspection import LARGE_BYTES
from core.data.report import Report
from core.data.rows import Progress
from core.data.tokenizer import load_tokenizer
from core.errors import UserError
from tests.core.data.conftest import MakeFolder
from tests.core.data.test_tokenizer import CHATML, SPECIALS


class Listener:
    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self.reports: list[Report] = []
        self.ended = threading.Event()

    def on_progress(self, progress: Progress) -> None:
        self.progress.append(progress)
        if progress.ended:
            self.ended.set()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def client(listener: Listener) -> Iterator[DataClient]:
    client = DataClient(listener.on_progress, listener.reports.append)
    yield client
    client.close()


def row(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}, ensure_ascii=False)


def write(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def mixed(folder: Path) -> str:
    """Line 2 is broken, line 3 blank, line 5 repeats line 1."""
    return write(
        folder / "rows.jsonl",
        [row("Grüße?", "yes"), "{broken", "  ", row("b \x1b[31m", "no"), row("Grüße?", "yes")],
    )


def test_rows_of_a_big_array_are_at_hand(
    client: DataClient, listener: Listener, tmp_path: Path
) -> None:
    """It is read in parts by other processes: nothing is put aside."""
    count = LARGE_BYTES // 50_000 + 20
    path = tmp_path / "big.json"
    rows = [row(f"question {n}", f"{n} " * 12_000) for n in range(count)]
    path.write_text("[" + ",\n".join([*rows, '{"messages": 3}', "7", '{"cut off"']))
    client.open([str(path)])
    assert listener.ended.wait(60)
    assert listener.reports[-1].ledger == {
        "usable": count, "missing-field": 1, "not-an-object": 1, "invalid-json": 1
    }  # fmt: skip
    page = client.rows(count - 1, 9)
    assert page.complete
    assert [one.number for one in page.rows] == [count, count + 1, count + 2, count + 3]
    assert [one.problems[:1] for one in page.rows[1:]] == [
        ("missing-field",), ("not-an-object",), ("invalid-json",)
    ]  # fmt: skip
    assert page.rows[0].prompt == f"question {count - 1}"
    detail = client.row(count)
    assert detail.place == f"{path}, row {count}"
    assert detail.turns[0].text == f"question {count - 1}"
    words = f"question {count - 2}"
    while not (page := client.rows(0, 9, search=words)).complete:
        pass  # one asking looks through a part of the rows
    assert [one.number for one in page.rows] == [count - 1]


def test_rows_report_and_tokens(
    client: DataClient, listener: Listener, tmp_path: Path, make_folder: MakeFolder
) -> None:
    folder = make_folder(CHATML, SPECIALS, eos="<|im_end|>")
    opened = client.open([mixed(tmp_path)], tokenizer=folder, max_length=64)
    assert opened.format == "messages"
    assert [(r.number, r.problems) for r in opened.rows][:2] == [(1, ()), (2, ("invalid-json",))]
    assert listener.ended.wait(20)
    report = client.report
    assert report is not None
    assert report.complete
    assert report.rows == 4 == sum(report.ledger.values())
    assert report.tokens is not None
    page = client.rows(0, 10)
    assert (page.total, page.complete) == (4, True)
    assert [r.number for r in page.rows] == [1, 2, 4, 5]
    assert page.rows[3].problems == ("duplicate",)
    assert page.rows[2].prompt == "b ␛[31m"
    assert [r.number for r in client.rows(0, 5, problem="duplicate").rows] == [5]
    assert [r.number for r in client.rows(0, 5, search="GRÜß").rows] == [1, 5]
    detail = client.row(4)
    assert detail.place.endswith("rows.jsonl:4")
    assert [turn.text for turn in detail.turns] == ["b ␛[31m", "no"]
    assert detail.problems[0].code == "control-characters"
    (sequence,) = client.tokens(1).sequences
    text = "".join(span.text for span in sequence.spans if span.kind == "trained")
    assert text == "yes<|im_end|>"
    assert sequence.stop
    assert sequence.total == len(sequence.spans)
    ids = [span.token for span in sequence.spans]
    assert load_tokenizer(folder).decode(ids).startswith("<|im_start|>user\nGrüße?")


@pytest.mark.parametrize("kind", ["csv", "gz", "json", "txt", "parquet"])
def test_other_files_are_spooled(
    client: DataClient, listener: Listener, tmp_path: Path, kind: str
) -> None:
    rows = [{"question": f"q{n}", "answer": f"a {n}"} for n in range(300)]
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        path.write_text("question,answer\n" + "".join(f"q{n},a {n}\n" for n in range(300)))
    elif kind == "gz":
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    elif kind == "json":
        path.write_text(json.dumps({"data": rows}))
    elif kind == "txt":
        path.write_text("\n".join(f"a {n}" for n in range(300)))
    else:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    client.open([str(path)])
    assert listener.ended.wait(20)
    page = client.rows(290, 20)
    assert page.total == 300
    assert [r.answer for r in page.rows][-1] == "a 299"
    assert client.row(300).turns[-1].text == "a 299"
    assert client.report is not None
    assert client.report.usable == 300


def test_opening_a_large_file_is_quick_and_can_be_cancelled(
    client: DataClient, listener: Listener, tmp_path: Path
) -> None:
    line = row("q" * 300, "a" * 300) + "\n"
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for _ in range(300):
            file.write(line * 1000)
    client.open([mixed(tmp_path)])  # the child is up
    listener.ended.wait(20)
    listener.ended.clear()
    assert client.open([str(path)]).rows[0].number == 1
    assert client.rows(5, 10).start == 5
    assert not listener.ended.is_set()
    client.cancel()
    assert listener.ended.wait(30)
    assert client.progress.stage == "cancelled"
    assert client.report is not None
    assert not client.report.complete
    assert client.row(3).number == 3


def test_a_mapping_is_tried_without_changing_anything(client: DataClient, tmp_path: Path) -> None:
    lines = [json.dumps({"ticket": f"t{n}", "reply": f"r{n}"}) for n in range(9)]
    opened = client.open([write(tmp_path / "odd.jsonl", [*lines, '{"ticket": "alone"}'])])
    assert opened.format == "unknown"
    trial = client.try_mapping({"prompt": "ticket", "completion": "reply"})
    assert (trial.format, trial.tried, trial.usable) == ("prompt-completion", 10, 9)
    assert [(row.prompt, row.answer) for row in trial.rows[:2]] == [("t0", "r0"), ("t1", "r1")]
    assert client.rows(0, 1).rows[0].format == "unknown"
    with pytest.raises(UserError, match="no column “gone”"):
        client.try_mapping({"text": "gone"})
    with pytest.raises(UserError, match="not a role"):
        client.try_mapping({"nonsense": "ticket"})


def test_a_row_is_found_by_its_number(
    client: DataClient, listener: Listener, tmp_path: Path
) -> None:
    client.open([mixed(tmp_path)])
    assert listener.ended.wait(20)
    assert [client.position(number) for number in (1, 3, 4, 5)] == [0, 2, 2, 3]
    with pytest.raises(UserError, match="no row 6"):
        client.position(6)


def test_a_clean_copy_is_written_by_the_helper(
    client: DataClient, listener: Listener, tmp_path: Path
) -> None:
    client.open([mixed(tmp_path)])
    copy = client.write_clean(tmp_path / "clean.jsonl")
    assert (copy.kept, copy.removed) == (
        1,
        {"invalid-json": 1, "control-characters": 1, "duplicate": 1},
    )
    assert Path(copy.file).read_text(encoding="utf-8").count("\n") == 1
    assert len(Path(copy.list).read_text(encoding="utf-8").splitlines()) == 3
    with pytest.raises(UserError, match="exists already"):
        client.write_clean(tmp_path / "clean.jsonl")


def test_a_helper_that_dies_is_told(client: DataClient, listener: Listener, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [row(f"q{n}" * 50, f"a{n}") for n in range(60_000)])
    client.open([path])
    assert client._child is not None
    os.kill(client._child.pid, signal.SIGKILL)
    assert listener.ended.wait(10)
    assert client.progress.stage == "cancelled"
    assert client.report is not None
    assert client.report.error


def test_a_file_that_goes_away_is_said_and_can_come_back(
    client: DataClient, listener: Listener, tmp_path: Path
) -> None:
    name = mixed(tmp_path)
    client.open([name])
    assert listener.ended.wait(20)
    away = Path(name).rename(tmp_path / "away.jsonl")
    with pytest.raises(UserError, match=r"Cannot read .*rows.jsonl: no such file"):
        client.row(1)
    away.rename(name)
    assert client.row(1).turns


def test_errors_are_sentences(client: DataClient, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No data is open"):
        client.rows(0, 1)
    with pytest.raises(UserError, match="There is no file"):
        client.open([str(tmp_path / "nothing.jsonl")])
    client.open([mixed(tmp_path)])
    with pytest.raises(UserError, match="tokenizer"):
        client.tokens(1)
    with pytest.raises(UserError, match="no row 99"):
        client.row(99)
    client.close()
    with pytest.raises(UserError, match="No data is open"):
        client.row(1)


def test_many_threads_may_ask_at_once(
    client: DataClient, listener: Listener, tmp_path: Path
) -> None:
    client.open([write(tmp_path / "rows.jsonl", [row(f"q{n}", f"a{n}") for n in range(500)])])
    listener.ended.wait(20)
    answers: list[tuple[int, str]] = []

    def ask(number: int) -> None:
        answers.extend((n, client.row(n).turns[0].text) for n in range(number, 500, 8))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 499
    assert all(text == f"q{number - 1}" for number, text in answers)


def test_closing_wakes_those_who_wait(client: DataClient, tmp_path: Path) -> None:
    client.open([mixed(tmp_path)])
    caught: list[UserError] = []

    def ask() -> None:
        try:
            while True:
                client.row(1)
        except UserError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    client.close()
    thread.join(10)
    assert len(caught) == 1
