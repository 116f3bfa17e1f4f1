"""Any row by its position, and the rows from one on."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from core.data.files import examine
from core.data.store import LineIndex


def index(*paths: Path) -> LineIndex:
    made = LineIndex([examine(path) for path in paths])
    made.build(Event())
    return made


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    contents = (b'{"a": 1}\n\n  \n{"a": 2}\r\n{"a": 3}', b'\xef\xbb\xbf{"a": 4}\n{"a": 5}\n\n')
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize("size", [1, 12, 1 << 20])
def test_blocks_hold_every_row_once(
    files: list[Path], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.data.store._BLOCK", size)
    store = index(*files)
    rows: list[bytes] = []
    while len(rows) < len(store):
        block = store.block(len(rows))
        assert block
        rows += block
    assert [row.strip() for row in rows] == [b'{"a": %d}' % n for n in range(1, 6)]
    assert [store.raw(at) for at in range(5)] == [row.strip() for row in rows]


def test_numbers_run_on_and_places_do_not(files: list[Path]) -> None:
    store = index(*files)
    assert [store.number(at) for at in range(5)] == [1, 4, 5, 6, 7]
    assert store.place(4).endswith("b.jsonl:2")
    assert (store.position(5), store.position(2), store.at_or_after(2)) == (2, None, 1)
