"""JSON arrays: where their elements are, whoever reads them, and what is told of other lists."""

from __future__ import annotations

import json
import random
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from core.data import array_index, arrays, inspection, json_values, parallel, scanner
from core.data.arrays import split
from core.data.elements import Elements
from core.data.files import Meter, examine
from core.data.inspection import Inspection
from core.data.sources import open_source, read_file, resolve
from core.errors import UserError

ROW = '{"prompt": "q%s", "completion": "a, \\"b\\" ]}, {"}'
ROWS = [ROW % at for at in range(6)]
ALL: dict[int, str | None] = dict.fromkeys(range(1, 7))
BAD = "invalid-json"
FILES: list[tuple[str, bytes, dict[int, str | None]]] = [
    ("an array", f"[{','.join(ROWS)}]".encode(), ALL),
    ("space around everything", (" [\n " + " ,\r\n\t".join(ROWS) + " \n]\n ").encode(), ALL),
    ("a BOM", b"\xef\xbb\xbf" + f"[{','.join(ROWS)}]".encode(), ALL),
    ("UTF-16", b"\xff\xfe" + f"[{','.join(ROWS)}]".encode("utf-16-le"), ALL),
    ("a comma at the end", f"[{','.join(ROWS)},]".encode(), ALL),
    ("an object", f'{{"version": 1, "data": [{",".join(ROWS)}], "x": {{}}}}'.encode(), ALL),
    ("broken in the middle", f'[{",".join(ROWS[:3])}, {{"a": no}}, {ROWS[4]}]'.encode(),
     {1: None, 2: None, 3: None, 4: BAD}),
    ("an open string", f'[{",".join(ROWS[:2])}, {{"a": "b}}, {ROWS[4]}]'.encode(),
     {1: None, 2: None, 3: BAD}),
    ("cut off", f'[{",".join(ROWS)}'.encode()[:-9], {**ALL, 6: BAD}),
    ("cut off between rows", f'[{",".join(ROWS)}'.encode(), {**ALL, 7: BAD}),
    ("cut off after a comma", f'[{",".join(ROWS)},\n'.encode(), {**ALL, 7: BAD}),
    ("no comma", f"[{ROWS[0]} {ROWS[1]}, {ROWS[2]}]".encode(), {1: None, 2: BAD}),
    ("two commas", f"[{ROWS[0]},, {ROWS[2]}]".encode(), {1: None, 2: BAD}),
    ("broken before another list",
     f'{{"test": [{ROWS[0]}], "data": [{ROWS[0]}, {{"a": no}}], "dev": [{ROWS[0]}]}}'.encode(),
     {1: None, 2: BAD}),
    ("the wrong bracket", f"[{','.join(ROWS)}}}".encode(), {**ALL, 7: BAD}),
    ("more after the end", f"[{','.join(ROWS)}] [1]".encode(), {**ALL, 7: BAD}),
    ("an object cut off", f'{{"data": [{",".join(ROWS)}]'.encode(), {**ALL, 7: BAD}),
    ("no objects", f"[1, {ROWS[0]}, [2, [3]], null, \"x, y\", {ROWS[1]}]".encode(),
     {n: None if n in (2, 6) else "not-an-object" for n in range(1, 7)}),
    ("NaN", f'[{ROWS[0]}, {{"prompt": "q", "completion": "a", "x": NaN}}, {ROWS[1]}]'.encode(),
     {1: None, 2: None, 3: None}),
    ("a name twice", f'[{ROWS[0]}, {{"prompt": 1, "prompt": "q", "completion": "a"}}]'.encode(),
     {1: None, 2: None}),
    ("Latin-1", f'[{ROWS[0]}, {{"prompt": "é", "completion": "a"}}, {ROWS[1]}]'.encode("latin-1"),
     {1: None, 2: "encoding", 3: None}),
    ("half a surrogate pair", f'[{ROWS[0]}, {{"prompt": "\\ud83d"}}, {ROWS[1]}]'.encode(),
     {1: None, 2: "encoding", 3: None}),
    ("backslashes", (r'[{"prompt": "\\", "completion": "\\\"],[\\"}, ' + f"{ROWS[0]}]").encode(),
     {1: None, 2: None}),
    ("deep", f'[{ROWS[0]}, {"[" * 1800}{"]" * 1800}, {ROWS[1]}]'.encode(), {1: None, 2: BAD}),
    ("too long", f'[{ROWS[0]}, {{"prompt": "{"x" * 5000}"}}, {ROWS[1]}]'.encode(),
     {1: None, 2: "too-long", 3: None}),
    ("empty", b"[ ]", {}),
]  # fmt: skip


class InLine:
    """Stands in for the processes: the same jobs, answered here in any order."""

    def __init__(self, orders: scanner.Orders, _count: int) -> None:
        self._scanner = scanner.Scanner(orders)
        self._jobs: list[str] = []
        self._draw = random.Random(1)

    def give(self, number: int, part: parallel.Part) -> None:
        self._jobs.append(json.dumps(part.as_job(number)))

    def take(self) -> tuple[int, dict[str, Any]]:
        job = json.loads(self._jobs.pop(self._draw.randrange(len(self._jobs))))
        part = scanner.answer(self._scanner, job).as_part()
        return job["job"], json.loads(json.dumps(part))

    def close(self) -> None:
        pass


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "LARGE_BYTES", 1)
    monkeypatch.setattr(parallel, "_Crew", InLine)
    monkeypatch.setattr(parallel, "PART_BYTES", 60)
    for name in ("_MODEST", "_CHUNK", "_FIRST_CHUNK"):
        monkeypatch.setattr(json_values, name, 8)
    monkeypatch.setattr(array_index, "_BLOCK", 200)
    for module in (arrays, scanner, array_index):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 4000)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("content", "codes"), [f[1:] for f in FILES], ids=[f[0] for f in FILES])
def test_both_ways_to_read_an_array_find_the_same(
    tmp_path: Path, content: bytes, codes: dict[int, str | None]
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    first = Inspection(resolve([str(path)]))
    for _ in first.steps():
        pass
    records = list(open_source([str(path)]))
    assert {record.number: record.problem for record in records} == codes
    if content.startswith(b"\xff\xfe"):
        return
    second = Inspection(resolve([str(path)]))
    assert second.is_large
    for _ in second.scan():
        pass
    assert second.report == first.report
    assert second.tally.masks == first.tally.masks
    index = second.index
    assert index is not None
    assert index.complete
    assert [index.get(at) for at in range(len(index))] == records
    blocks: list[bytes] = []
    while len(blocks) < len(index):
        blocks += index.block(len(blocks))
    assert blocks == [index.raw(at) for at in range(len(index))]


@pytest.mark.usefixtures("small_parts")
def test_a_file_that_is_lost_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(f'[{ROWS[0]}, {{"a": no}}, {", ".join(ROWS)}]')
    second.write_text(f"[{', '.join(ROWS)}]")
    both = Inspection(resolve([str(first), str(second)]))
    for _ in both.scan():
        pass
    assert list(both.tally.numbers) == list(range(1, 9))
    assert both.report.ledger == {"usable": 7, BAD: 1}
    assert both.index is not None
    assert both.index.place(0) == f"{first}, row 1"
    assert both.index.place(7) == f"{second}, row 8"
    assert both.index.get(7).value == json.loads(ROWS[5])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_elements_are_found_wherever_the_chunks_end(size: int) -> None:
    texts = [
        '"\\\\\\""',
        '{"a": ["]", "\\\\"]}',
        " 1 ",
        '"x\\"y,"',
        '[[{"b": "}\\\\\\\\"}]]',
        '"é"',
    ]
    data = ",".join(texts).encode() + b"] rest"
    stream = iter([data[at : at + size] for at in range(0, len(data), size)])
    batches = list(split(lambda _: next(stream, b""), 0, repeat(size)))
    assert [one for batch in batches for one in batch.elements] == [t.encode() for t in texts]
    assert [batch.closing for batch in batches if batch.closing is not None] == ["]"]
    assert sum(batch.count for batch in batches) == len(texts)


def test_a_long_integer_keeps_its_digits(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 123456789012345678901234567890, "b": "\\u00e9"}, {"a": 1}]')
    assert [r.value for r in open_source([str(path)])] == [
        {"a": 123456789012345678901234567890, "b": "é"}, {"a": 1}
    ]  # fmt: skip


LISTS = {
    "version": 1,
    "test": [{"prompt": f"t{n}", "completion": "a"} for n in range(3)],
    "train": [{"prompt": f"q{n}", "completion": "a"} for n in range(5)],
    "dev\x1b[2J": [{"prompt": "d", "completion": "a"}],
}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("scans", [False, True])
def test_lists_that_are_not_read_are_told_and_can_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool, scans: bool
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(LISTS))
    if big:
        monkeypatch.setattr(json_values, "_MODEST", 8)
        monkeypatch.setattr(json_values, "_FIRST_CHUNK", 8)
    if scans:
        monkeypatch.setattr(inspection, "LARGE_BYTES", 1)
        monkeypatch.setattr(parallel, "_Crew", InLine)

    def look(name: str) -> tuple[int, list[str]]:
        one = Inspection(resolve([name]))
        assert one.is_large == (big and scans)
        report = one.run()
        held_out = (f"{path}/dev\x1b[2J",) if name == str(path) else ()
        assert report.held_out == one.held_out == held_out
        return report.rows, [p.message for p in report.problems if p.code == "unread-lists"]

    assert look(str(path)) == (5, [
        "3 rows are in lists of the file that are not read. Read: train. Not read: test (3)."
    ])  # fmt: skip
    assert look(f"{path}/test") == (3, [])
    with pytest.raises(UserError, match=r"no list of rows named no.* It has test, train, dev"):
        look(f"{path}/no")


@pytest.mark.parametrize("big", [False, True])
def test_a_list_for_evaluation_is_read_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, big: bool
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"about": "x", "test": LISTS["test"], "dev": LISTS["train"]}))
    if big:
        monkeypatch.setattr(json_values, "_MODEST", 8)
        monkeypatch.setattr(json_values, "_FIRST_CHUNK", 8)
    report = Inspection(resolve([str(path)])).run()
    assert report.rows == 3
    assert "Read: test. Not read: dev (5)." in next(
        problem.message for problem in report.problems if problem.code == "unread-lists"
    )


def test_what_is_a_list_of_rows_does_not_depend_on_how_much_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long turn is not known for one by its beginning, however it is read."""
    path = tmp_path / "a.json"
    turn = {"role": "user", "content": "x" * 200}
    path.write_text(json.dumps({"x": "y" * 300, "rows": [turn], "dev": [turn] * 3}))
    for name, size in (("_MODEST", 600), ("_FIRST_CHUNK", 64), ("_CHUNK", 100)):
        monkeypatch.setattr(json_values, name, size)
    file, meter = examine(path), Meter()
    first = [record.value for record in read_file(file, meter)]
    again = Elements()
    batches = json_values.list_batches(file, meter, 100)
    assert [record.value for batch in batches for record in again.read(batch)] == first == [turn]


def test_only_an_object_has_lists_to_name(tmp_path: Path) -> None:
    for name, content in (("a.jsonl", ROWS[0]), ("b.json", f"[{ROWS[0]},\n{ROWS[1]}]")):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match="no list"):
            list(open_source([f"{tmp_path / name}/test"]))
