from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.hardware import doctor
from core.hardware.doctor import Finding
from core.hardware.machine import Gpu, Machine
from core.units import GIB

MACHINE = Machine(
    taken=0.0,
    gpus=(),
    gpu_note="no NVIDIA GPU",
    driver=None,
    cpu_name="a CPU",
    cores=2,
    cpu_percent=1.0,
    ram_total=16 * GIB,
    ram_available=8 * GIB,
    disk_total=100 * GIB,
    disk_free=50 * GIB,
)
CARD = Gpu(index=0, name="NVIDIA L4", total=24 * GIB, free=23 * GIB, capability=(8, 9))


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield address


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_here_everything_needed_is_there(monkeypatch: pytest.MonkeyPatch, silent_hub: str) -> None:
    monkeypatch.setattr(doctor, "read_machine", lambda: MACHINE)
    findings = by_name(doctor.examine())
    assert findings["torch"].verdict == "ok"
    assert findings["trl"].verdict == "ok"
    assert findings["GPU"].verdict == "warning"
    assert "CPU" in findings["GPU"].detail
    assert findings["hub"].verdict == "warning"
    assert silent_hub in findings["hub"].detail
    assert doctor.as_json(list(findings.values()))["ready"] is True


def test_a_cpu_build_of_torch_beside_a_gpu_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "torch_cuda", lambda: None)
    finding = doctor._torch(replace(MACHINE, gpus=(CARD,)))
    assert finding.verdict == "bad"
    assert "CUDA build" in finding.remedy


def test_a_driver_older_than_torchs_cuda_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "torch_cuda", lambda: "13.0")
    assert doctor._torch(replace(MACHINE, gpus=(CARD,), cuda="12.8")).verdict == "bad"
    assert doctor._torch(replace(MACHINE, gpus=(CARD,), cuda="13.1")).verdict == "ok"


@pytest.mark.parametrize(
    ("number", "verdict"), [("1.16.0", "ok"), ("1.15.2", "bad"), ("2.0.0", "bad"), (None, "bad")]
)
def test_versions_out_of_range_are_named(
    monkeypatch: pytest.MonkeyPatch, number: str | None, verdict: str
) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda name: number)
    finding = doctor._package("trl", *doctor.STACK["trl"])
    assert finding.verdict == verdict
    assert (finding.remedy == "") == (verdict == "ok")


@pytest.mark.parametrize(
    ("capability", "verdict"), [((10, 0), "ok"), ((7, 5), "warning"), ((6, 1), "bad")]
)
def test_capability_is_compared_as_numbers(capability: tuple[int, int], verdict: str) -> None:
    card = replace(CARD, capability=capability)
    assert by_name(doctor._gpus(replace(MACHINE, gpus=(card,))))["GPU 0"].verdict == verdict


def test_little_disk_is_bad() -> None:
    assert doctor._disk(replace(MACHINE, disk_free=GIB)).verdict == "bad"
    assert doctor._disk(replace(MACHINE, disk_free=5 * GIB)).verdict == "warning"
    assert doctor._disk(replace(MACHINE, disk_free=None)).verdict == "warning"
