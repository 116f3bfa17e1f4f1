from __future__ import annotations

import os

import pytest

from core.hardware import nvml
from core.hardware.nvml import Nvml
from core.hardware.visible import visible_indices
from tests.core.hardware.fake_nvml import (
    GIB,
    LOST,
    NOT_SUPPORTED,
    UNKNOWN,
    Card,
    FakeLibrary,
    install,
)


@pytest.fixture(autouse=True)
def _all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_everything_readable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibrary(Card(processes=[(os.getpid(), GIB), (1 << 31, 5 * GIB)])))
    gpus, note, driver, cuda = Nvml().read()
    (gpu,) = gpus
    assert (note, driver, cuda) == ("", "570.86.10", "12.8")
    assert gpu.name == "NVIDIA GeForce RTX 4090"
    assert gpu.uuid == "GPU-11111111-aaaa"
    assert (gpu.total, gpu.used, gpu.reserved) == (24 * GIB, 2 * GIB, GIB // 4)
    assert gpu.free == 24 * GIB - 2 * GIB - GIB // 4
    assert (gpu.utilisation, gpu.temperature, gpu.power) == (37, 61, pytest.approx(123.456))
    assert gpu.capability == (8, 9)
    mine, other = gpu.processes
    assert mine.ours
    assert mine.memory == GIB
    assert (other.pid, other.name, other.ours) == (1 << 31, None, False)


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetName", "name"),
        ("nvmlDeviceGetUUID", "uuid"),
        ("nvmlDeviceGetUtilizationRates", "utilisation"),
        ("nvmlDeviceGetTemperature", "temperature"),
        ("nvmlDeviceGetPowerUsage", "power"),
        ("nvmlDeviceGetCudaComputeCapability", "capability"),
    ],
)
@pytest.mark.parametrize("error", [NOT_SUPPORTED, UNKNOWN])
def test_one_failing_query_costs_one_value(
    monkeypatch: pytest.MonkeyPatch, function: str, field: str, error: int
) -> None:
    install(monkeypatch, FakeLibrary(Card(errors={function: error})))
    (gpu,) = Nvml().read()[0]
    assert getattr(gpu, field) is None
    assert gpu.total == 24 * GIB


def test_an_old_driver_without_the_newer_memory_query(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibrary(Card(errors={"nvmlDeviceGetMemoryInfo_v2": NOT_SUPPORTED})))
    (gpu,) = Nvml().read()[0]
    assert (gpu.total, gpu.used, gpu.reserved) == (24 * GIB, 2 * GIB, None)


def test_absurd_values_are_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(
        name=b"\xff\xfe broken",
        total=(1 << 64) - 1,
        utilisation=4_294_967_295,
        temperature=4_294_967_295,
        milliwatts=4_294_967_295,
        capability=(0, 0),
        processes=[(77, (1 << 64) - 1)],
    )
    install(monkeypatch, FakeLibrary(card))
    (gpu,) = Nvml().read()[0]
    assert gpu.name is None
    assert (gpu.total, gpu.used, gpu.free) == (None, None, None)
    assert (gpu.utilisation, gpu.temperature, gpu.power, gpu.capability) == (None,) * 4
    assert gpu.processes[0].memory is None


def test_a_gpu_that_vanishes_leaves_the_other_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = FakeLibrary(Card(), Card(uuid=b"GPU-22222222-bbbb"))
    install(monkeypatch, library)
    session = Nvml()
    library.cards[1].errors = {"handle": LOST, "*": LOST}
    gpus, note, _, _ = session.read()
    assert gpus[0].total == 24 * GIB
    assert gpus[1].total is None
    assert note == "GPU 1 does not answer"
    library.cards[1].errors = {}
    gpus, note, _, _ = session.read()
    assert gpus[1].total == 24 * GIB
    assert note == ""


def test_a_driver_that_goes_is_asked_again_later_not_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = FakeLibrary(Card())
    install(monkeypatch, library)
    now = [100.0]
    monkeypatch.setattr(nvml.time, "monotonic", lambda: now[0])
    session = Nvml()
    assert len(session.read()[0]) == 1
    library.count_error = UNKNOWN
    gpus, note, _, _ = session.read()
    assert gpus == ()
    assert "does not answer" in note
    library.count_error = 0
    assert session.read()[0] == ()
    assert library.starts == 1
    now[0] += nvml.RETRY_SECONDS + 1
    assert len(session.read()[0]) == 1
    assert library.starts == 2


def test_no_library_is_no_gpu_and_costs_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    monkeypatch.setattr(nvml, "_pci_vendor_present", lambda vendor: False)
    monkeypatch.setattr(nvml.platform, "system", lambda: "Linux")
    session = Nvml()
    assert session.read() == ((), "no NVIDIA GPU", None, None)
    monkeypatch.setattr(nvml, "why_no_gpu", lambda error: pytest.fail("asked again at once"))
    assert session.read()[1] == "no NVIDIA GPU"


@pytest.mark.parametrize(
    ("error", "words"),
    [(9, "not loaded"), (18, "restart the machine"), (4, "no permission"), (999, "not answer")],
)
def test_driver_problems_in_words(monkeypatch: pytest.MonkeyPatch, error: int, words: str) -> None:
    library = FakeLibrary(Card())
    library.init_error = error
    install(monkeypatch, library)
    gpus, note, _, _ = Nvml().read()
    assert gpus == ()
    assert words in note


def test_amd_and_apple_and_a_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    monkeypatch.setattr(nvml.platform, "system", lambda: "Linux")
    monkeypatch.setattr(nvml, "_pci_vendor_present", lambda vendor: vendor == "0x10de")
    assert "driver is not installed" in Nvml().read()[1]
    monkeypatch.setattr(nvml, "_pci_vendor_present", lambda vendor: vendor == "0x1002")
    assert Nvml().read()[1].startswith("AMD GPU")
    monkeypatch.setattr(nvml.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(nvml.platform, "machine", lambda: "arm64")
    assert Nvml().read()[1].startswith("Apple GPU")


def test_hidden_gpus_are_listed_and_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibrary(Card(), Card(uuid=b"GPU-22222222-bbbb")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-2222")
    gpus, note, _, _ = Nvml().read()
    assert [gpu.visible for gpu in gpus] == [False, True]
    assert note == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpus, note, _, _ = Nvml().read()
    assert not any(gpu.visible for gpu in gpus)
    assert note == "CUDA_VISIBLE_DEVICES hides every GPU"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("1,9,0", [1]),
        ("0,0", [0]),
        ("GPU-b", [1]),
        ("GPU-x", []),
        ("GPU-", []),
        (" 1 , 2 ", [1, 2]),
    ],
)
def test_cuda_visible_devices(setting: str | None, expected: list[int]) -> None:
    assert visible_indices(setting, ["GPU-a1", "GPU-b2", "GPU-a3"]) == expected
