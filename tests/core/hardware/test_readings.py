from __future__ import annotations

import time
from pathlib import Path

import pytest

from core.hardware import host
from core.hardware.readings import read_machine


def test_a_reading_is_whole() -> None:
    read_machine()
    machine = read_machine()
    assert machine.cores >= 1
    assert 0 < machine.ram_available <= machine.ram_total
    assert machine.disk_free is not None
    assert machine.gpus or machine.gpu_note
    assert machine.as_sample()["kind"] == "machine"


def test_the_cpu_share_is_counted_over_a_time_that_means_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psutil

    clock, shares = [100.0], iter([0.0, 40.0, 70.0])
    monkeypatch.setattr(host, "_cpu_readings", [])
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: next(shares))
    assert host.cpu_percent() is None, "psutil counts from the last call, and there was none"
    clock[0] += 0.01
    assert host.cpu_percent() is None
    clock[0] += 1
    assert host.cpu_percent() == 40.0
    clock[0] += 0.01
    assert host.cpu_percent() == 40.0
    clock[0] += 1
    assert host.cpu_percent() == 70.0


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(host, "cgroup_folders", lambda: (tmp_path,))
    return tmp_path


def test_a_containers_memory_limit_counts(groups: Path) -> None:
    (groups / "memory.max").write_text(f"{512 * 1024**2}\n")
    (groups / "memory.current").write_text(f"{200 * 1024**2}\n")
    (groups / "memory.stat").write_text(f"anon 5\ninactive_file {50 * 1024**2}\n")
    assert host.memory() == (512 * 1024**2, 362 * 1024**2)


def test_the_older_layout_counts_too(groups: Path) -> None:
    (groups / "memory.limit_in_bytes").write_text(f"{256 * 1024**2}\n")
    (groups / "memory.usage_in_bytes").write_text(f"{56 * 1024**2}\n")
    (groups / "cpu.cfs_quota_us").write_text("50000\n")
    (groups / "cpu.cfs_period_us").write_text("100000\n")
    assert host.memory() == (256 * 1024**2, 200 * 1024**2)
    assert host.cores() == 1


def test_no_limit_and_nonsense_change_nothing(groups: Path) -> None:
    before = host.cores()
    (groups / "memory.max").write_text("max\n")
    (groups / "cpu.max").write_text("max 100000\n")
    assert host.memory()[0] > 512 * 1024**2
    (groups / "memory.max").write_text("what\n")
    (groups / "cpu.max").write_text("\n")
    assert host.memory()[0] > 512 * 1024**2
    assert host.cores() == before


def test_a_cpu_quota_counts(groups: Path) -> None:
    (groups / "cpu.max").write_text("100000 100000\n")
    assert host.cores() == 1


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert host.disk(tmp_path / "not" / "yet") == host.disk(tmp_path)
