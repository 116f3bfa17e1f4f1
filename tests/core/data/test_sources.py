"""Files as they come: every container, compression and encoding, and what is wrong with them."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from core.data.examples import Record
from core.data.files import Meter, examine
from core.data.sources import open_source, read_file
from core.errors import UserError

ROWS = [{"prompt": f"Grüße {n}\u2028", "completion": f"你好 {n}"} for n in range(5)]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


def records(path: Path) -> list[Record]:
    return list(open_source([str(path)]))


def problems(path: Path) -> list[tuple[int, str | None]]:
    return [(record.number, record.problem) for record in records(path)]


BIG_OBJECTS = [
    {"version": 1, "data": ROWS},
    {"meta": [{"x": 1}], "rows": ROWS},
    {"about": {"deep": [1, {"a": "]"}]}, "some": ROWS * 40},
    {key: [row[key] for row in ROWS] for key in ROWS[0]},
    {"messages": [{"role": "user", "content": "q"}] * 9},
    {"prompt": "q" * 900, "completion": "a"},
    {"data": []},
]


@pytest.mark.parametrize("value", BIG_OBJECTS)
@pytest.mark.parametrize("indent", [None, 1])
def test_a_big_object_is_read_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: object, indent: int | None
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value, indent=indent))
    whole = records(path)
    for name in ("_MODEST", "_CHUNK", "_FIRST_CHUNK"):
        monkeypatch.setattr(f"core.data.json_values.{name}", 64)
    assert records(path) == whole


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('{"data": [{"a": 1}, {"a": 2}, {"a": ', 3),
        ('{"data": [{"a": 1} {"a": 2}]}' + " " * 99, 2),
        ('{"x" 1, "data": [{"a": "' + "b" * 99 + '"}]}', 1),
        ('{"x": ' + "[" * 9000, 1),
        ('{"a": 1, "b": 2' + " " * 99, 1),
    ],
)
def test_a_big_object_that_is_broken_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, row: int
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    monkeypatch.setattr("core.data.json_values._MODEST", 8)
    monkeypatch.setattr("core.data.json_values._CHUNK", 8)
    monkeypatch.setattr("core.data.json_values._FIRST_CHUNK", 8)
    assert problems(path)[-1] == (row, "invalid-json")


def test_what_lies_beside_the_rows_in_a_folder_is_no_row(tmp_path: Path) -> None:
    for name in ("README.md", "LICENSE.txt", "dataset_info.json", ".cache/x.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"a": 1}')
    assert [record.value["text"] for record in open_source([str(tmp_path)])] == ['{"a": 1}'] * 2
    (tmp_path / "train.jsonl").write_text(LINES)
    assert [record.value for record in open_source([str(tmp_path)])] == ROWS


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"is a pipe, not a file\. Name - and pipe"):
        records(tmp_path / "pipe")


def test_a_packed_parquet_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet.gz"
    path.write_bytes(gzip.compress(b"PAR1" + b"x" * 99))
    with pytest.raises(UserError, match="Unpack it first"):
        records(path)


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.jsonl", LINES.replace("\n", "\r\n").encode() + b"\r\n\r\n"),
        ("a.jsonl", codecs.BOM_UTF8 + LINES.encode()),
        ("a.jsonl", codecs.BOM_UTF16_LE + LINES.encode("utf-16-le")),
        ("a.jsonl", codecs.BOM_UTF16_BE + LINES.encode("utf-16-be")),
        ("a.jsonl", codecs.BOM_UTF32_LE + LINES.encode("utf-32-le")),
        ("a.jsonl.gz", gzip.compress(LINES.encode())),
        ("a.jsonl", gzip.compress(LINES.encode())),
        ("a.jsonl.xz", lzma.compress(LINES.encode())),
        ("a.jsonl.bz2", bz2.compress(LINES.encode())),
        ("a.jsonl.zst", zstd(LINES.encode())),
        ("a.json.gz", gzip.compress(codecs.BOM_UTF16_LE + LINES.encode("utf-16-le"))),
        ("a.ndjson", LINES.encode()),
        ("nameless", LINES.encode()),
        ("a.json", LINES.encode()),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.jsonl", json.dumps(ROWS, indent=2).encode()),
        ("a.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        ("a.json", json.dumps({"meta": [{"x": 1}], "rows": ROWS}, indent=1).encode()),
        ("a.json", json.dumps({key: [r[key] for r in ROWS] for key in ROWS[0]}).encode()),
        ("a.json", json.dumps({str(n): row for n, row in enumerate(ROWS)}).encode()),
        ("a.json", "\n".join(json.dumps(row, indent=2) for row in ROWS).encode()),
    ],
)  # fmt: skip
def test_reads_every_container(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert [record.value for record in records(path)] == ROWS
    assert [record.number for record in records(path)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream", "feather"])
def test_reads_columnar_files(tmp_path: Path, kind: str) -> None:
    table = pa.Table.from_pylist(ROWS)
    path = tmp_path / f"a.{'parquet' if kind == 'parquet' else 'arrow'}"
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=2)
    elif kind == "feather":
        feather.write_feather(table, path)
    else:
        new = ipc.new_file if kind == "arrow" else ipc.new_stream
        with new(str(path), table.schema) as writer:
            writer.write_table(table)
    assert [record.value for record in records(path)] == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_reads_tables(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv")
    quoted = '"line 1\nline 2 ""x"""'
    lines = ["prompt", "completion"], ["a b", quoted], ["c", "d"], ["short"], ["1", "2", "3"]
    path.write_bytes("\r\n".join(delimiter.join(line) for line in lines).encode("utf-8-sig"))
    found = records(path)
    assert found[0].value == {"prompt": "a b", "completion": 'line 1\nline 2 "x"'}
    assert found[2].value == {"prompt": "short"}
    assert (found[3].number, found[3].problem) == (4, "not-an-object")


def test_reads_text_by_line_and_markdown_by_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.md").write_text("# Title\n\nText\n")
    found = list(open_source([str(tmp_path)]))
    assert [(r.number, r.value["text"]) for r in found] == [
        (1, "one"), (3, "two"), (4, "# Title\n\nText\n")
    ]  # fmt: skip


def test_numbers_run_on_over_several_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / name).write_text(LINES)
    (tmp_path / ".hidden.jsonl").write_text("{")
    for spec in ([str(tmp_path)], [str(tmp_path / "*.jsonl")], [str(tmp_path / "a.jsonl")] * 2):
        found = list(open_source(spec))
        assert [record.number for record in found] == list(range(1, 11))


def test_bad_rows_are_records_with_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"a": 1}\n\n{"a": \n[1]\n"x"\nnull\n3\n{"a": "\xff"}\n{"a": "\\ud83d"}\n'
        b'{"a": NaN}\n' + b'{"a": ' * 3000 + b"\n{}\n{} {}\ntrailing"
    )
    assert problems(path) == [
        (1, None), (3, "invalid-json"), (4, "not-an-object"), (5, "not-an-object"),
        (6, "not-an-object"), (7, "not-an-object"), (8, "encoding"), (9, "encoding"),
        (10, "invalid-json"), (11, "invalid-json"), (12, None), (13, "invalid-json"),
        (14, "invalid-json"),
    ]  # fmt: skip
    assert "character 7" in records(path)[1].detail


def test_a_broken_array_gives_what_is_before_the_break(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, 5, {"a": 2}, {"a": ')
    assert problems(path) == [(1, None), (2, "not-an-object"), (3, None), (4, "invalid-json")]
    path.write_text('[{"a": 1} {"a": 2}]')
    assert problems(path) == [(1, None), (2, "invalid-json")]
    path.write_text('[{"a": "\\udc00"}, {"a": 1}]')
    assert problems(path) == [(1, "encoding"), (2, None)]


def test_a_big_array_is_not_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "x" * 700_000, "n": n} for n in range(6)]))
    assert [record.value["n"] for record in records(path)] == list(range(6))


def test_a_damaged_archive_gives_what_can_be_unpacked(tmp_path: Path) -> None:
    import random

    noise = random.Random(1)
    lines = [json.dumps({"text": noise.randbytes(60).hex()}) for _ in range(3000)]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode())[:100_000])
    found = records(path)
    assert len(found) > 500
    assert found[0].problem is None
    assert found[-1].problem == "invalid-json"
    assert "cannot be read from here" in found[-1].detail


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", b" \n\n ", "white space"),
        ("a.jsonl", bytes(range(256)) * 8 + b"\0" * 200, "binary"),
        ("a.jsonl", "{}".encode("utf-16-le") * 9, "binary"),
        ("a.parquet", b"not parquet at all", "not a parquet"),
        ("a.parquet", b"PAR1 and then nonsense", "cannot be read"),
        ("a.arrow", b"\xff\xff\xff\xff nonsense", "cannot be read"),
        ("a.jsonl.gz", b"\x1f\x8b nonsense", "cannot be unpacked"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd nonsense", "cannot be unpacked"),
        ("a.csv", b"a,a\n1,2\n", "does not name the columns"),
    ],
)
def test_unusable_files_are_one_sentence(
    tmp_path: Path, name: str, content: bytes, word: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=word) as caught:
        records(path)
    assert caught.value.remedy
    assert "\n" not in caught.value.message


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    for name in ("no/such.jsonl", str(tmp_path / "*.csv"), "\0", "x" * 5000, str(tmp_path)):
        with pytest.raises(UserError):
            list(open_source([name]))
    with pytest.raises(UserError):
        list(open_source([]))
    secret = tmp_path / "secret.jsonl"
    secret.write_text("{}")
    secret.chmod(0)
    try:
        secret.read_text()
    except PermissionError:  # not when the tests run as root
        with pytest.raises(UserError, match="permission"):
            records(secret)


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ("Prompt,Completion\nq,a\n", {"Prompt": "q", "Completion": "a"}),
        ("instruction\tinput\toutput\nq\t\ta\n",
         {"instruction": "q", "input": "", "output": "a"}),
        ("so, here is text\nand more\n", {"text": "so, here is text"}),
    ],
)  # fmt: skip
def test_a_file_without_a_telling_name(tmp_path: Path, content: str, first: dict[str, str]) -> None:
    path = tmp_path / "rows"
    path.write_text(content)
    assert records(path)[0].value == first


def test_a_big_parquet_file_tells_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.Table.from_pylist([{"text": f"{n}" * 50} for n in range(3000)])
    parquet.write_table(table, path)
    meter = Meter()
    reached = [meter.position for _ in read_file(examine(path), meter)]
    assert reached == sorted(reached)
    assert len(set(reached)) > 3
    assert 0 < reached[-1] <= path.stat().st_size
