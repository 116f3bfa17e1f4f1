"""Data sets on a hub: small ones come into the cache, big ones as they are read.

Every look is a process of its own, as it is for a user: the address of the hub is read at import.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.core.models.conftest import Hub, commit_of, hub

__all__ = ["hub"]

COPY = "refs/convert/parquet"
LOOK = """
import json, sys, time
from core.data import hub
from core.data.inspection import inspect
from core.errors import UserError
slept = []
time.sleep = slept.append  # between attempts
hub.SMALL_BYTES, hub.FIRST_BYTES, hub.BLOCK_BYTES = int(sys.argv[1]), 5_000, 20_000
for name in sys.argv[2:]:
    try:
        report = inspect([name])
        found = {"format": report.format, "ledger": report.ledger}
    except UserError as error:
        found = {"error": str(error)}
    print(json.dumps(found))
assert sum(slept) <= 120, slept
print([name for name in ("torch", "datasets", "transformers") if name in sys.modules])
"""


def rows(count: int, word: str = "row") -> list[dict[str, str]]:
    return [{"prompt": f"{word} {n}?", "completion": f"answer {n} " * 20} for n in range(count)]


def as_parquet(count: int, word: str = "row") -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows(count, word)), out, row_group_size=100)
    return out.getvalue()


def as_lines(count: int) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows(count)).encode()


def look(*names: str, small: int = 0) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(small), *names],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *reports, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    return [json.loads(line) for line in reports]


def parts(name: str, **options: bool) -> dict[str, Any]:
    """What becomes of the parts of a data set."""
    script = (
        "import json, sys; from dataclasses import asdict; from core.data.sources import resolve;"
        f"found = asdict(resolve([sys.argv[1]], **{options}));"
        "print(json.dumps({'read': sorted({f['path'].name for f in found['files']}),"
        " **{k: found[k] for k in ('held_out', 'spare', 'unnamed')},"
        " 'misnamed': len(found['misnamed'])}))"
    )
    done = subprocess.run([sys.executable, "-c", script, name], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {key: value for key, value in json.loads(done.stdout).items() if value}


def asked_for(hub: Hub, method: str, part: str) -> list[str]:
    return [one for one in hub.requests if one.startswith(method) and part in one]


def usable(count: int, format: str = "prompt-completion") -> dict[str, Any]:
    return {"format": format, "ledger": {"usable": count}}


def test_a_small_one_comes_into_the_cache(hub: Hub, tmp_path: Path) -> None:
    hub.data_sets["org/chats"] = {"main": {}, COPY: {"default/train/0000.parquet": as_parquet(30)}}
    assert look("org/chats", small=1 << 20) == [usable(30)]
    cached = list((tmp_path / "hf").rglob("snapshots/*/default/train/0000.parquet"))
    assert [path.parents[2].name for path in cached] == [commit_of("org/chats", COPY)]


def test_a_big_one_is_read_as_it_comes(hub: Hub, tmp_path: Path) -> None:
    files = {
        "default/test/0000.parquet": as_parquet(10, "test"),
        "default/train/0000.parquet": as_parquet(2000),
        "default/train/0001.parquet": as_parquet(300, "more"),
    }
    hub.data_sets["org/big"] = {"main": {}, COPY: files}
    train, test, wrong = look("org/big", "org/big/test", "org/big:other/train")
    assert (train, test) == (usable(2300), usable(10))
    assert "no other/train" in wrong["error"]
    assert "configs default and the splits" in wrong["error"]
    assert not list((tmp_path / "hf").rglob("*.parquet"))
    pieces = asked_for(hub, "GET", "train/0000.parquet")
    assert len(pieces) > 2
    assert all(commit_of("org/big", COPY) in one for one in pieces)


def test_files_as_they_were_uploaded(hub: Hub) -> None:
    lines = as_lines(400)
    cells = "".join(f"{row['prompt']},{row['completion']}\n" for row in rows(400))
    table = f"prompt,completion\n{cells}".encode()
    names = {"data/train.jsonl": lines, "t.jsonl.gz": gzip.compress(lines), "train.csv": table}
    for number, (name, content) in enumerate(names.items()):
        files = {name: content, "data/test.jsonl": as_lines(7), "README.md": b"# hello"}
        hub.data_sets[f"org/raw{number}"] = {"main": files}
    *whole, test, nothing = look("org/raw0", "org/raw1", "org/raw2", "org/raw0/test", "org/raw0/no")
    assert whole == [usable(400)] * 3
    assert test == usable(7)
    assert "no data files of no " in nothing["error"]


def test_the_split_for_evaluation_is_held_out(hub: Hub) -> None:
    splits = {name: as_parquet(9, name) for name in ("test_b", "train_a", "validation", "other")}
    copy = {f"default/{name}/{name}.parquet": content for name, content in splits.items()}
    hub.data_sets["org/copy"] = {"main": {}, COPY: copy}
    assert parts("org/copy") == {
        "read": ["train_a.parquet"], "held_out": ["org/copy/validation"],
        "spare": ["org/copy/test_b"], "unnamed": ["org/copy/other"],
    }  # fmt: skip
    assert parts("org/copy", to_evaluate=True) == {"read": ["validation.parquet"]}
    assert parts("org/copy/other") == {"read": ["other.parquet"]}
    names = ("data/train_sft-0.jsonl", "data/held-out.jsonl", "notes.jsonl")
    hub.data_sets["org/raw"] = {"main": {name: as_lines(9) for name in names}}
    assert parts("org/raw") == {
        "read": ["train_sft-0.jsonl"], "held_out": ["org/raw/held-out-jsonl"],
        "unnamed": ["org/raw/notes.jsonl"],
    }  # fmt: skip
    assert parts("org/raw/held-out-jsonl") == {"read": ["held-out.jsonl"]}
    assert parts("org/raw/train_sft") == {"read": ["train_sft-0.jsonl"]}


def test_a_data_set_for_evaluation_alone_is_read_and_it_is_said(hub: Hub) -> None:
    hub.data_sets["org/bench"] = {"main": {}, COPY: {"default/test/0.parquet": as_parquet(9)}}
    assert parts("org/bench") == {"read": ["0.parquet"], "misnamed": 1}


@pytest.mark.parametrize(
    ("headers", "when"),
    [({"Retry-After": "5400"}, "in 1 h 30 min"), ({"RateLimit": '"api";r=0;t=240'}, "in 4 min")],
)
def test_a_small_one_is_not_waited_for_as_long_as_the_hub_asks(
    hub: Hub, headers: dict[str, str], when: str
) -> None:
    hub.data_sets["org/busy"] = {"main": {"a.jsonl": as_lines(9)}}
    hub.busy["org/busy"] = headers
    (found,) = look("org/busy", small=1 << 20)
    assert f"too many requests from here (429). Try again {when}" in found["error"]


def test_a_copy_of_the_first_part_only_is_not_taken_for_the_whole(hub: Hub) -> None:
    hub.data_sets["org/partial"] = {
        "main": {"train.jsonl": as_lines(90)},
        COPY: {"default/partial-train/0000.parquet": as_parquet(40)},
    }
    assert look("org/partial", "org/partial/train") == [usable(90)] * 2


def test_a_hub_that_sends_whole_files_will_do(hub: Hub) -> None:
    hub.ignores_ranges = True
    hub.data_sets["org/whole"] = {"main": {"a.jsonl": as_lines(300)}}
    assert look("org/whole") == [usable(300)]


BREAKS: dict[str, tuple[tuple[int, dict[str, str]] | None, str]] = {
    "org/broken": ((500, {}), "did not send org/broken/a.jsonl: it answers 500. Try again later."),
    "org/closed": ((403, {}), "The hub does not let you read org/closed (403). Ask its owner for"),
    "org/gated": ((401, {"X-Error-Code": "GatedRepo"}), "The data set org/gated is gated. Accept"),
    "org/busy": ((429, {"Retry-After": "5400"}), "from here (429). Try again in 1 h 30 min;"),
    "org/hasty": ((429, {"Retry-After": "7"}), "from here (429). Try again in 7 s;"),
    "org/vague": ((429, {"Retry-After": "soon"}), "requests from here (429). Try again later;"),
    "org/away": ((503, {"Retry-After": "9999"}), "it answers 503. Try again later."),
    "org/cut": (None, "The hub did not send org/cut/a.jsonl. Check the path, or the network."),
}


def test_rows_that_do_not_arrive_are_not_bad_rows(hub: Hub) -> None:
    """Nor is waited for as long as a hub may ask to."""
    for name, (breaks_with, _) in BREAKS.items():
        hub.data_sets[name] = {"main": {"a.jsonl": as_lines(500)}}
        hub.breaks[name] = breaks_with
    hub.stalls_for = 0
    for found, (_, sentence) in zip(look(*BREAKS), BREAKS.values(), strict=True):
        assert sentence in found["error"]


def test_a_hub_that_stalls_and_one_that_dies_are_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
    for name in ("org/slow", "org/dead"):
        hub.data_sets[name] = {"main": {"a.jsonl": as_lines(500)}}
    hub.breaks["org/slow"] = None
    assert "did not send org/slow/a.jsonl" in look("org/slow")[0]["error"]
    hub.dies = True
    assert "did not send org/dead/a.jsonl" in look("org/dead")[0]["error"]


def test_one_bad_answer_is_no_failure(hub: Hub) -> None:
    answers: dict[str, tuple[int, dict[str, str]] | None] = {
        "org/a": (429, {"Retry-After": "2"}), "org/b": (503, {}), "org/c": (500, {}), "org/d": None
    }  # fmt: skip
    hub.recovers, hub.stalls_for = True, 0
    for name, answer in answers.items():
        hub.data_sets[name] = {"main": {"a.jsonl": as_lines(500)}}
        hub.breaks[name] = answer
    assert look(*answers) == [usable(500)] * 4


def test_pieces_at_another_address_are_fetched_there(hub: Hub) -> None:
    hub.redirects = True
    hub.data_sets["org/raw"] = {"main": {"a.jsonl": as_lines(1000)}}
    assert look("org/raw") == [usable(1000)]
    assert len(asked_for(hub, "GET", "a.jsonl?moved")) > 2


REFUSALS = {
    "org/busy": ((429, "Busy"), "too many requests"),
    "org/gated": ((401, "GatedRepo"), "is gated"),
    "org/closed": ((403, "Forbidden"), "does not let you read"),
    "org/broken": ((500, "Broken"), "it answers 500"),
}


def test_a_hub_that_does_not_even_list_the_files(hub: Hub) -> None:
    hub.refuses_lists = True
    for name, (status, _) in REFUSALS.items():
        hub.data_sets[name] = {"main": {"a.jsonl": as_lines(9)}}
        hub.status[name] = status
    for found, (_, sentence) in zip(look(*REFUSALS), REFUSALS.values(), strict=True):
        assert sentence in found["error"]


def test_offline_by_choice(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (found,) = look("org/raw")
    assert "unset HF_HUB_OFFLINE" in found["error"]
    assert hub.requests == []


def test_what_the_hub_refuses_is_one_sentence(hub: Hub) -> None:
    hub.data_sets["org/gated"] = {"main": {"a.jsonl": as_lines(400)}}
    hub.status["org/gated"] = (403, "GatedRepo")
    gated, nothing = look("org/gated", "org/nothing")
    assert "is gated" in gated["error"]
    assert "hf auth login" in nothing["error"]


def test_without_a_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in look("org/chats")[0]["error"]
