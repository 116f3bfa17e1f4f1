"""Several processes find what one does, in the same order."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from threading import Event

import pytest

from core.data import inspection, parallel
from core.data.inspection import Inspection, inspect
from core.data.sources import resolve
from core.data.tokenizer import load_tokenizer
from core.errors import UserError
from tests.bench.make_rows import write_rows
from tests.core.data.conftest import MakeFolder
from tests.core.data.test_tokenizer import CHATML, SPECIALS


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two files in several parts, with blank lines, CRLF, a BOM and no newline at the end."""
    monkeypatch.setattr(inspection, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr(parallel, "PART_BYTES", 300_000)
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_rows(first, 2000)
    lines = first.read_bytes().splitlines()
    random.Random(1).shuffle(lines)
    odd = [b"  ", b"\t", b"[1]", b'{"text": 1}', b"\xff\xfe", b'{"messages": []}']
    for number, line in enumerate(odd * 5):
        lines.insert(number * 60, line)
    second.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    return [str(first), str(second)]


def test_any_number_of_processes_gives_the_same_report(
    big: list[str], make_folder: MakeFolder
) -> None:
    tokenizer = load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))
    reports, codes = [], []
    for processes in (1, 2, 3, None):
        one = Inspection(resolve(big), tokenizer=tokenizer, max_length=256)
        assert one.is_large
        steps = one.steps() if processes is None else one.scan(processes=processes)
        for _ in steps:
            pass
        reports.append(json.dumps(one.report.as_json()))
        codes.append((one.tally.numbers, one.tally.masks))
    assert reports[1:] == reports[:-1]
    assert codes[1:] == codes[:-1]
    report = one.report
    assert report.rows == sum(report.ledger.values()) == 4020
    assert report.ledger["not-an-object"] == 5
    assert report.ledger["encoding"] == 5


def test_an_array_is_read_by_several_too(
    big: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a certain number of rows the samples are the same as well."""
    monkeypatch.setattr(inspection, "_ALL_ROWS", 1000)
    monkeypatch.setattr(inspection, "SAMPLED_ROWS", 800)
    path = tmp_path / "a.json"
    rows = [line for line in Path(big[0]).read_text().splitlines() if not line.endswith("cut off")]
    path.write_text(f"[{', '.join(rows)}]")
    alone, several = Inspection(resolve([str(path)])), Inspection(resolve([str(path)]))
    assert several.is_large
    for _ in alone.steps():
        pass
    assert len({progress.bytes for progress in several.scan(processes=2)}) > 3
    assert several.report == alone.report
    assert several.report.sample is not None


def test_a_sample_stands_for_the_rest(
    big: list[str], make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))
    exact = inspect(big, tokenizer=tokenizer).tokens
    monkeypatch.setattr(inspection, "_ALL_ROWS", 1000)
    monkeypatch.setattr(inspection, "SAMPLED_ROWS", 800)
    report = inspect(big, tokenizer=tokenizer)
    assert report == inspect(big, tokenizer=tokenizer)
    sampled = report.tokens
    assert exact is not None
    assert sampled is not None
    assert 600 < sampled.counted_rows < 1000
    assert sampled.total == pytest.approx(exact.total, rel=0.1)
    assert sampled.p50 == pytest.approx(exact.p50, rel=0.1)
    assert 0.02 < sampled.margin < 0.05
    assert exact.margin == 0
    assert report.rows == sum(report.ledger.values())
    assert inspect(big, tokenizer=tokenizer, exact=True).tokens == exact


def test_can_be_stopped(big: list[str]) -> None:
    stopped = Event()
    one = Inspection(resolve(big))
    for progress in one.scan(stopped, processes=2):
        assert 0 < progress.bytes < one.source.bytes
        stopped.set()
    assert not one.report.complete
    assert 0 < one.report.rows < 4000


def test_a_scanner_that_dies_is_told(big: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    original = parallel.Child

    def remember(module: str) -> parallel.Child:
        child = original(module)
        children.append(child.pid)
        return child

    monkeypatch.setattr(parallel, "Child", remember)
    steps = Inspection(resolve(big)).scan(processes=1)
    next(steps)
    os.kill(children[0], signal.SIGKILL)
    with pytest.raises(UserError, match="scanner"):
        list(steps)
