from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from subprocess import CompletedProcess
from typing import Any

import pytest

from core.hardware import doctor
from core.hardware.doctor_gpu import look_at_gpus, try_four_bit_linear
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


def test_a_card_that_is_too_old_gives_way_to_one_that_is_not() -> None:
    old = replace(CARD, index=1, capability=(6, 1))
    newer = replace(CARD, free=8 * GIB)
    machine = replace(MACHINE, gpus=(newer, old))
    assert machine.best_gpu() == newer
    found = by_name(look_at_gpus(machine))
    assert (found["GPU 0"].verdict, found["GPU 1"].verdict) == ("ok", "warning")
    assert "too old for torch" in found["GPU 1"].detail
    alone = replace(MACHINE, gpus=(old,))
    assert alone.best_gpu() == old, "an old build of torch may still know it"
    assert by_name(look_at_gpus(alone))["GPU 1"].verdict == "bad"


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
        ("the AMD GPU is not supported, only NVIDIA's are", "rent"),
        ("the Apple GPU is not supported, only NVIDIA's are", "rent"),
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


def test_the_4_bit_layer_is_tried_in_a_child_on_the_gpu_of_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here the child ends with a word of torch, for there is no GPU to try it on."""
    seen: list[dict[str, str]] = []
    run = subprocess.run

    def noted(*args: Any, **options: Any) -> Any:
        seen.append(options["env"])
        return run(*args, **{**options, "env": {**options["env"], "CUDA_VISIBLE_DEVICES": ""}})

    monkeypatch.setattr(subprocess, "run", noted)
    finding = doctor._four_bit(
        Finding("torch", "ok", "2.13, built for CUDA 12.8"), replace(CARD, uuid="GPU-7")
    )
    assert finding.verdict == "bad"
    assert "finds no CUDA device" in finding.detail
    (environment,) = seen
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


BROKEN_LAYERS = """
import bitsandbytes as bnb
import torch
from bitsandbytes.autograd._functions import MatMul4Bit
from unittest.mock import patch
from core.models.four_bit import main, try_layer

main("cpu")
unpack, forward = bnb.functional.dequantize_4bit, bnb.nn.Linear4bit.forward
no_number = staticmethod(lambda ctx, grad: (grad * float("nan"), *[None] * 4))
for owner, name, wrong in (
    (bnb.nn.Params4bit, "_quantize", lambda weights, device: weights),
    (bnb.functional, "dequantize_4bit", lambda *parts: unpack(*parts) * 2),
    (bnb.nn.Linear4bit, "forward", lambda layer, inputs: forward(layer, inputs) * 2),
    (MatMul4Bit, "backward", no_number),
):
    with patch.object(owner, name, wrong):
        print(try_layer("cpu", torch.bfloat16))
"""


def test_the_4_bit_child_passes_where_such_layers_work_and_finds_nonsense() -> None:
    """bitsandbytes has kernels for the CPU, too: the same steps, on another device. In a child, as
    torch is not imported here."""
    child = subprocess.run(
        [sys.executable, "-P", "-c", BROKEN_LAYERS], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    works, unpacked, weights, outputs, gradient = child.stdout.splitlines()
    assert works == "NF4 forward and backward work on the CPU"
    assert unpacked == "the weights were not packed into 4 bits"
    assert weights == "the weights are not what they were before they were packed"
    assert outputs == "the layer computes something else than its weights say"
    assert gradient == "the gradient through a 4-bit layer is wrong"


@pytest.mark.parametrize(
    ("stderr", "words", "remedy"),
    [
        (
            "Traceback (most recent call last):\n  File x\nRuntimeError: CUDA error: no kernel "
            "image is available for execution on the device\nCUDA kernel errors might be reported"
            " later.\nCompile with `TORCH_USE_CUDA_DSA` to enable assertions.\n",
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            "torch build",
        ),
        (
            "Traceback (most recent call last):\n  File x\nRuntimeError: \n🚨 CUDA SETUP ERROR: "
            "Missing dependency: libnvJitLink.so.13 🚨\n\nOriginal error: libnvJitLink.so.13\n"
            "Native code method attempted to call: lib.cquantize()\n",
            "RuntimeError: 🚨 CUDA SETUP ERROR: Missing dependency: libnvJitLink.so.13 🚨",
            "Reinstall bitsandbytes",
        ),
        (
            "a warning\nTraceback (most recent call last):\n  File x\ntorch.OutOfMemoryError: CUDA "
            "out of memory. Tried to allocate 2.00 MiB.\n",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB.",
            "nvidia-smi",
        ),
        ("the gradient through a 4-bit layer is wrong\n", "the gradient", "Reinstall"),
        ("", "ended by SIGILL", "Reinstall"),
    ],
)
def test_what_the_child_ended_with_is_one_line(
    monkeypatch: pytest.MonkeyPatch, stderr: str, words: str, remedy: str
) -> None:
    code = 1 if stderr else -signal.SIGILL
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **options: CompletedProcess(args, code, "", stderr)
    )
    finding = try_four_bit_linear(CARD)
    assert finding.verdict == "bad"
    assert finding.detail.startswith(words)
    assert remedy in finding.remedy


def test_no_4_bit_layer_is_tried_without_a_gpu_that_can_be_used_or_without_bitsandbytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(doctor, "torch_cuda", lambda: "12.8")
    monkeypatch.setattr(
        "core.hardware.doctor.try_four_bit_linear", lambda gpu: pytest.fail("it was tried")
    )
    hidden = replace(
        MACHINE,
        gpus=(replace(CARD, visible=False),),
        gpu_note="CUDA_VISIBLE_DEVICES=foo hides every GPU",
    )
    monkeypatch.setattr(doctor, "read_machine", lambda: hidden)
    found = by_name(doctor.examine())
    assert "4-bit layer" not in found
    assert "CUDA_VISIBLE_DEVICES=foo hides every GPU" in found["GPU"].detail
    assert "its index or its UUID" in found["GPU"].remedy
    installed = doctor.installed
    monkeypatch.setattr(
        doctor, "installed", lambda name: None if name == "bitsandbytes" else installed(name)
    )
    monkeypatch.setattr(doctor, "read_machine", lambda: replace(MACHINE, gpus=(CARD,)))
    found = by_name(doctor.examine())
    assert found["4-bit layer"].verdict == "warning"
    assert "bitsandbytes is not installed" in found["4-bit layer"].detail


def test_the_cache_of_models_has_a_disk_of_its_own() -> None:
    assert doctor._cache(replace(MACHINE, cache_free=GIB)).verdict == "warning"
    assert doctor._cache(replace(MACHINE, cache_free=100 * GIB)).verdict == "ok"
    assert doctor._cache(MACHINE).verdict == "warning"
