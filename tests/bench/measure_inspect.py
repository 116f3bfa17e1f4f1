"""Measures the inspector on a big file, and `datasets` with a plain map on the same file.

    python -m tests.bench.measure_inspect [ROWS] [--tokenizer FOLDER] [--exact]

Prints one JSON object: MB/s and peak memory (of the whole process tree) of both, the time until
the first rows are there, and how long the app takes to answer a key while the pass runs, and at
rest. A million rows (the default) are 1.1 GB on disk; TMPDIR says where.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from core.data.client import DataClient
from tests.bench.make_rows import write_rows
from tests.bench.start_up import APP, ROOT, Terminal

HIGHLIGHT = "▸".encode()
FEWEST_KEYS, MOST_KEYS, KEYS_AT_REST = 50, 400, 200
KEY_SECONDS = 0.1
"""Between two keys."""

INSPECT = """
import sys
from pathlib import Path
from core.data.inspection import inspect
from core.data.tokenizer import load_tokenizer
folder = sys.argv[2]
tokenizer = load_tokenizer(Path(folder)) if folder else None
report = inspect([sys.argv[1]], tokenizer=tokenizer, exact=sys.argv[3] == "exact")
print(report.rows, report.usable, [(problem.code, problem.count) for problem in report.problems])
"""
TOKENIZER = """
from core.models.embedded import MODEL_ID
from core.models.locate import locate_tokenizer
locate_tokenizer(MODEL_ID)
"""
BASELINE = """
import sys
from datasets import load_dataset
rows = load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2])
def check(row):
    return {"answers": sum(turn["role"] == "assistant" for turn in row["messages"])}
rows = rows.map(check, num_proc=2)
print(len(rows))
"""


def run(script: str, *arguments: str) -> dict[str, Any]:
    """Time a script in a process of its own, and the most memory that its tree takes."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    peak = 0
    watched = psutil.Process(process.pid)
    reader = threading.Thread(target=process.wait)
    reader.start()
    while reader.is_alive():
        peak = max(peak, tree_memory(watched))
        reader.join(0.1)
    out, err = process.communicate()
    seconds = time.monotonic() - started
    said = out.strip() if process.returncode == 0 else err.strip().splitlines()[-1]
    return {"seconds": round(seconds, 1), "peak_mb": peak >> 20, "said": said}


def tree_memory(process: psutil.Process) -> int:
    """Unique memory of a process and its children, so that shared libraries count once."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            try:
                total += one.memory_full_info().uss
            except psutil.Error:
                continue  # it has just ended
    except psutil.Error:
        return total
    return total


def first_rows(path: Path) -> float:
    """Seconds from nothing to the first rows, the start of the child included."""
    client = DataClient()
    started = time.monotonic()
    client.open([str(path)])
    client.rows(0, 50)
    seconds = time.monotonic() - started
    client.close()
    return round(seconds, 2)


def key_delays(path: Path, folder: Path) -> dict[str, Any]:
    """Milliseconds from a key to the frame that answers it, in the app in a pty, all through a
    pass and then, as the baseline, at rest: the highlight goes a row down, again and again."""
    environment = {**os.environ, "TERM": "xterm-256color", "TUNEDECK_HOME": str(folder),
                   "PYTHONPATH": str(ROOT)}  # fmt: skip
    subprocess.run([sys.executable, "-c", TOKENIZER], env=environment, check=True)
    terminal = Terminal(APP, environment)
    terminal.read_for(20, until=b"Home")
    for typed, answer in (("2", b"Source"), ("o", b""), (f"{path}\r", HIGHLIGHT)):
        terminal.type(typed)
        terminal.read_for(20 if answer else 1, until=answer or None)
    busy: list[float] = []
    peak, process = 0, psutil.Process(terminal.pid)
    while len(busy) < FEWEST_KEYS or (scanners(process) and len(busy) < MOST_KEYS):
        busy.append(answered(terminal))
        if not len(busy) % 20:
            peak = max(peak, tree_memory(process))
    while scanners(process):
        terminal.read_for(1)
    terminal.read_for(3)
    resting = [answered(terminal) for _ in range(KEYS_AT_REST)]
    terminal.close()
    return {
        "while_inspecting": percentiles(busy),
        "at_rest": percentiles(resting),
        "peak_mb": peak >> 20,
    }


def answered(terminal: Terminal) -> float:
    """Press the key for the next row; milliseconds until the highlight is there."""
    terminal.read_for(KEY_SECONDS)
    started = time.perf_counter()
    terminal.type("j")
    received = terminal.read_for(20, until=HIGHLIGHT)
    if HIGHLIGHT not in received:
        raise SystemExit(f"no answer to a key: {received[-400:]!r}")
    return 1000 * (time.perf_counter() - started)


def scanners(process: psutil.Process) -> bool:
    """Whether the pass runs: the helper of the app has children of its own."""
    return any(child.children() for child in process.children())


def percentiles(delays: list[float]) -> dict[str, Any]:
    ordered = sorted(delays)
    return {
        "keys": len(ordered),
        "median_ms": round(ordered[len(ordered) // 2], 1),
        "p95_ms": round(ordered[len(ordered) * 95 // 100], 1),
        "worst_ms": round(ordered[-1], 1),
        "over_50_ms": sum(delay > 50 for delay in ordered),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--tokenizer", default="")
    parser.add_argument("--exact", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, options.rows)
        sound = Path(folder) / "sound.jsonl"  # `datasets` gives up at the first broken row
        write_rows(sound, options.rows, sound=True)
        megabytes = path.stat().st_size / 1e6
        found = run(INSPECT, str(path), options.tokenizer, "exact" if options.exact else "")
        baseline = run(BASELINE, str(sound), str(Path(folder) / "cache"))
        for result in (found, baseline):
            result["mb_per_s"] = round(megabytes / result["seconds"], 1)
        print(
            json.dumps(
                {
                    "megabytes": round(megabytes),
                    "first_rows_seconds": first_rows(path),
                    "keys": key_delays(path, Path(folder) / "home"),
                    "inspect": found,
                    "datasets": baseline,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
