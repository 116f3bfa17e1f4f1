"""Every end has a sentence and a way out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from core.errors import UserError
from core.runs import diagnosis
from core.runs.diagnosis import classify, explain, vanished
from core.runs.directory import RunDirectory
from core.runs.events import EventWriter


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "gpu-out"),
        ("RuntimeError: [enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: "
         "can't allocate memory: you tried to allocate 1 bytes", "out-of-memory"),
        ("OSError: [Errno 28] No space left on device", "disk-full"),
        ("RuntimeError: [enforce fail at inline_container.cc:676] . unexpected pos", "disk-full"),
        ("huggingface_hub.errors.GatedRepoError: 403 Client Error.", "gated-model"),
        ("RuntimeError: CUDA Setup failed despite CUDA being available: libbitsandbytes_cuda129",
         "bitsandbytes-mismatch"),
        ("RuntimeError: CUDA error: no kernel image is available for execution", "cuda-mismatch"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", "cuda-error"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'x'", "missing-file"),
        ("ModuleNotFoundError: No module named 'bitsandbytes'", "missing-library"),
    ],
)  # fmt: skip
def test_known_by_its_words(run: RunDirectory, text: str, code: str) -> None:
    run.log.write_text(f"Traceback (most recent call last):\n  File x\n{text}\n")
    found = classify(run, 1)
    assert found.code.startswith(code)
    assert found.message
    assert found.remedy


def test_the_worker_s_own_words_come_first(run: RunDirectory) -> None:
    began = time.time() - 1
    EventWriter(run.events).write("error", code="nan-loss", message="It is NaN.", remedy="Less.")
    run.log.write_text("Traceback (most recent call last):\nMemoryError\n")
    found = classify(run, 1, began)
    assert (found.code, found.message, found.remedy) == ("nan-loss", "It is NaN.", "Less.")
    assert classify(run, 1, time.time() + 5).code == "out-of-memory"


def test_the_unknown_is_quoted_without_control_characters(run: RunDirectory) -> None:
    run.log.write_text("  50%|#### |\nwarnings.warn(\nSomething \x1b[31modd happened\n\n")
    found = classify(run, 3)
    assert "exit code 3" in found.message
    assert "odd happened" in found.message
    assert "\x1b" not in found.message


def test_killed_for_memory(run: RunDirectory) -> None:
    assert classify(run, -9).code == "killed"
    assert classify(run, -9, out_of_memory=True).code == "out-of-memory"
    sample = {"kind": "machine", "t": time.time(), "ram_available": 90 * 1024**2}
    run.gpu.write_text(json.dumps(sample) + "\n")
    found = classify(run, -9)
    assert found.code == "out-of-memory"
    assert "90.0 MiB" in found.message
    assert vanished(run).code == "out-of-memory"


def test_a_crash_inside_a_library(run: RunDirectory) -> None:
    found = classify(run, -11)
    assert found.code == "crashed"
    assert "SIGSEGV" in found.message


def test_vanished_without_a_trace(run: RunDirectory) -> None:
    found = vanished(run)
    assert found.code == "killed"
    assert "resume" in found.remedy


def test_vanished_with_a_restart(run: RunDirectory) -> None:
    sample = {"kind": "machine", "t": 1000.0, "ram_available": 8 * 1024**3}
    run.gpu.write_text(json.dumps(sample) + "\n")
    assert vanished(run).code == "restarted"


def test_vanished_with_the_disk_full(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_disk_free", lambda run: 0)
    assert vanished(run).code == "disk-full"


def test_exceptions_as_sentences() -> None:
    assert explain(UserError("No model.", "Get one.")).message == "No model."
    assert explain(MemoryError()).code == "out-of-memory"
    odd = explain(ValueError("first\nsecond"))
    assert odd.message == "Training failed: ValueError: first"
