from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.hardware import doctor
from core.hardware.doctor_gpu import look_at_gpus
from core.hardware.findings import Finding
from core.hardware.machine import Gpu, GpuProcess, Machine
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
    monkeypatch.setattr(doctor, "installed", lambda name: number)
    finding = doctor._package("trl", *doctor.STACK["trl"])
    assert finding.verdict == verdict
    assert (finding.remedy == "") == (verdict == "ok")


@pytest.mark.parametrize(
    ("capability", "verdict"), [((10, 0), "ok"), ((7, 5), "warning"), ((6, 1), "bad")]
)
def test_capability_is_compared_as_numbers(capability: tuple[int, int], verdict: str) -> None:
    card = replace(CARD, capability=capability)
    assert by_name(look_at_gpus(replace(MACHINE, gpus=(card,))))["GPU 0"].verdict == verdict


def test_little_disk_is_bad() -> None:
    assert doctor._disk(replace(MACHINE, disk_free=GIB)).verdict == "bad"
    assert doctor._disk(replace(MACHINE, disk_free=5 * GIB)).verdict == "warning"
    assert doctor._disk(replace(MACHINE, disk_free=None)).verdict == "warning"


def test_a_card_tells_all_that_can_be_read_and_na_for_the_rest() -> None:
    other = GpuProcess(7, 3 * GIB, None)
    card = replace(
        CARD, used=GIB, utilisation=12, power=71.4, clock=1800, pcie="4.0 x8", processes=(other,)
    )
    detail = by_name(look_at_gpus(replace(MACHINE, gpus=(card,))))["GPU 0"].detail
    for words in (
        "NVIDIA L4, 23.0 GiB free of 24.0 GiB, 1.00 GiB used",
        "utilisation 12 %",
        "temperature N/A",
        "power 71 of N/A W",
        "clocks 1,800 MHz, memory N/A",
        "PCIe 4.0 x8",
        "capability 8.9",
        "1 other process holds 3.00 GiB",
    ):
        assert words in detail


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (Gpu(index=0), "does not answer"),
        (replace(CARD, free=None), "free memory cannot be read"),
        (replace(CARD, free=GIB), "little memory is free"),
        (replace(CARD, visible=False), "hidden by CUDA_VISIBLE_DEVICES"),
        (replace(CARD, throttled=("power limit", "temperature")), "slowed by temperature"),
        (replace(CARD, mig=True), "MIG mode without a slice"),
    ],
)
def test_what_is_wrong_with_a_card_is_said(card: Gpu, words: str) -> None:
    finding = by_name(look_at_gpus(replace(MACHINE, gpus=(card,))))["GPU 0"]
    assert finding.verdict == "warning"
    assert words in finding.detail


def test_slices_are_told_one_by_one() -> None:
    parts = (replace(CARD, name="MIG 3g.40gb"), replace(CARD, name="MIG 1g.10gb", visible=False))
    card = replace(CARD, mig=True, slices=parts)
    found = by_name(look_at_gpus(replace(MACHINE, gpus=(card,))))
    assert found["GPU 0"].verdict == "ok"
    assert "MIG 3g.40gb, 23.0 GiB free" in found["GPU 0.0"].detail
    assert found["GPU 0.1"].verdict == "warning"


@pytest.mark.parametrize(
    ("note", "remedy"),
    [
        ("no NVIDIA GPU", "rent a machine"),
        ("AMD GPU: only NVIDIA GPUs are supported, training here runs on the CPU", "rent"),
        ("Apple GPU: training here runs on the CPU", "rent"),
        ("an NVIDIA GPU is there, but its driver is not installed", "Install the NVIDIA driver"),
        ("no permission to talk to the NVIDIA driver", "/dev/nvidia"),
    ],
)
def test_without_a_gpu_it_says_what_can_still_be_done(note: str, remedy: str) -> None:
    (finding,) = look_at_gpus(replace(MACHINE, gpu_note=note))
    assert note in finding.detail
    assert remedy in finding.remedy


def test_no_4_bit_layer_is_tried_where_torch_cannot_reach_the_gpu(
    monkeypatch: pytest.MonkeyPatch, silent_hub: str
) -> None:
    monkeypatch.setattr(doctor, "read_machine", lambda: replace(MACHINE, gpus=(CARD,)))
    monkeypatch.setattr(doctor, "torch_cuda", lambda: None)
    found = by_name(doctor.examine())
    assert "not tried" in found["4-bit layer"].detail
    assert doctor.ready(list(found.values())) is False


def test_the_4_bit_layer_is_tried_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the child ends with torch's own words, for there is no GPU to try it on."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    finding = doctor._four_bit(Finding("torch", "ok", "2.13, built for CUDA 12.8"))
    assert finding.verdict == "bad"
    assert "CUDA" in finding.detail


def test_the_cache_of_models_has_a_disk_of_its_own() -> None:
    assert doctor._cache(replace(MACHINE, cache_free=GIB)).verdict == "warning"
    assert doctor._cache(replace(MACHINE, cache_free=100 * GIB)).verdict == "ok"
    assert doctor._cache(MACHINE).verdict == "warning"
