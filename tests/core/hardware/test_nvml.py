from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import psutil
import pynvml
import pytest

from core.hardware import nvml
from core.hardware.machine import Gpu, Machine
from core.hardware.nvml import Nvml
from core.hardware.visible import visible_places
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
    card = Card(
        processes=[(os.getpid(), GIB), (1 << 31, 5 * GIB)],
        drawing=[(1, 7)],
        slowed=0x1 | 0x4 | 0x20,
    )
    install(monkeypatch, FakeLibrary(card))
    gpus, note, driver, cuda = Nvml().read()
    (gpu,) = gpus
    assert (note, driver, cuda) == ("", "570.86.10", "12.8")
    assert gpu.name == "NVIDIA GeForce RTX 4090"
    assert gpu.uuid == "GPU-11111111-aaaa"
    assert (gpu.total, gpu.used, gpu.reserved) == (24 * GIB, 2 * GIB, GIB // 4)
    assert gpu.free == 24 * GIB - 2 * GIB - GIB // 4
    assert (gpu.utilisation, gpu.temperature, gpu.power) == (37, 61, pytest.approx(123.456))
    assert gpu.capability == (8, 9)
    assert gpu.power_limit == pytest.approx(450)
    assert (gpu.clock, gpu.memory_clock, gpu.pcie) == (2520, 10_501, "4.0 x16")
    assert gpu.throttled == ("power limit", "temperature")  # being idle is no reason
    assert (gpu.mig, gpu.slices) == (False, ())
    mine, other, drawing = gpu.processes
    assert (drawing.pid, drawing.memory) == (1, 7)
    assert mine.ours
    assert mine.memory == GIB
    assert (other.pid, other.name, other.ours) == (1 << 31, None, False)


def test_ours_are_this_users_runs_and_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    child = [sys.executable, "-P", "-m", "core.training.worker", "a run"]
    rank = [sys.executable, "-u", "-m", "core.training.rank", "a run"]
    another = ["python", "-P", "-m", "core.train"]
    cut = ["python", "-u", "-I", "-m"]
    words = {10: child, 11: child, 12: another, 13: ["vllm"], 14: [], 15: [], 16: rank, 17: cut}

    class Process:
        def __init__(self, pid: int) -> None:
            if pid not in words:
                raise psutil.NoSuchProcess(pid)
            self.pid = pid

        def name(self) -> str:
            return "python"

        def cmdline(self) -> list[str]:
            if self.pid == 15:
                raise psutil.AccessDenied(self.pid)
            return words[self.pid]

        def uids(self) -> SimpleNamespace:
            return SimpleNamespace(real=os.getuid() + (self.pid == 11))

    monkeypatch.setattr(psutil, "Process", Process)
    install(monkeypatch, FakeLibrary(Card(processes=[(pid, GIB) for pid in range(10, 19)])))
    (gpu,) = Nvml().read()[0]
    assert [process.pid for process in gpu.processes if process.ours] == [10, 16]
    assert gpu.processes[-1].name is None


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetName", "name"),
        ("nvmlDeviceGetUUID", "uuid"),
        ("nvmlDeviceGetUtilizationRates", "utilisation"),
        ("nvmlDeviceGetTemperature", "temperature"),
        ("nvmlDeviceGetPowerUsage", "power"),
        ("nvmlDeviceGetCudaComputeCapability", "capability"),
        ("nvmlDeviceGetEnforcedPowerLimit", "power_limit"),
        ("nvmlDeviceGetClockInfo", "clock"),
        ("nvmlDeviceGetClockInfo", "memory_clock"),
        ("nvmlDeviceGetCurrentClocksThrottleReasons", "throttled"),
        ("nvmlDeviceGetCurrPcieLinkGeneration", "pcie"),
        ("nvmlDeviceGetCurrPcieLinkWidth", "pcie"),
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
    assert "AMD GPU is not supported" in Nvml().read()[1]
    monkeypatch.setattr(nvml.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(nvml.platform, "machine", lambda: "arm64")
    assert "Apple GPU is not supported" in Nvml().read()[1]


def test_hidden_gpus_are_listed_and_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibrary(Card(), Card(uuid=b"GPU-22222222-bbbb")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-2222")
    gpus, note, _, _ = Nvml().read()
    assert [gpu.visible for gpu in gpus] == [False, True]
    assert note == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    gpus, note, _, _ = Nvml().read()
    assert not any(gpu.visible for gpu in gpus)
    assert note == "CUDA_VISIBLE_DEVICES is empty and hides every GPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all" * 50)
    note = Nvml().read()[1]
    assert note.startswith("CUDA_VISIBLE_DEVICES=allall")
    assert note.endswith("… hides every GPU")


@pytest.mark.parametrize(
    "card",
    [
        Card(used=30 * GIB),
        Card(used=20 * GIB, free=22 * GIB),
        Card(free=(1 << 64) - 1),
        Card(used=(1 << 64) - 5),
    ],
    ids=["more used than there is", "more than the sum", "endless", "negative"],
)
def test_memory_that_contradicts_itself_is_none(
    monkeypatch: pytest.MonkeyPatch, card: Card
) -> None:
    install(monkeypatch, FakeLibrary(card))
    gpus, note, _, _ = Nvml().read()
    assert (gpus[0].total, gpus[0].used, gpus[0].free) == (24 * GIB, None, None)
    assert gpus[0].temperature == 61
    assert note == "the free memory of GPU 0 cannot be read"


@pytest.mark.parametrize("query", ["nvmlDeviceGetMigMode", "nvmlDeviceGetClockInfo"])
def test_a_binding_without_a_query_costs_one_value(
    monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    install(monkeypatch, FakeLibrary(Card()))
    monkeypatch.delattr(pynvml, query)
    (gpu,) = Nvml().read()[0]
    assert gpu.total == 24 * GIB
    assert gpu.mig is False


@pytest.mark.parametrize("count", [4_294_967_295, 65])
def test_an_absurd_number_of_gpus_is_no_number(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    library = FakeLibrary(Card())
    library.count = count
    install(monkeypatch, library)
    gpus, note, _, _ = Nvml().read()
    assert gpus == ()
    assert f"it counts {count} GPUs" in note


def test_more_gpus_than_answer_are_listed_without_values(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary(Card())
    library.count = 2
    install(monkeypatch, library)
    gpus, note, _, _ = Nvml().read()
    assert gpus[1] == Gpu(index=1)
    assert note == "GPU 1 does not answer"


def sliced() -> Card:
    """A card cut in two, the second slice the emptier."""
    slices = [
        Card(name=b"NVIDIA A100 MIG 2g.20gb", uuid=b"MIG-aaaa", total=20 * GIB, used=15 * GIB),
        Card(name=b"NVIDIA A100 MIG 1g.10gb", uuid=b"MIG-bbbb", total=10 * GIB, used=GIB),
    ]
    for part in slices:
        part.errors = {"nvmlDeviceGetTemperature": NOT_SUPPORTED}
    return Card(name=b"NVIDIA A100-SXM4-40GB", uuid=b"GPU-cccc", total=40 * GIB, slices=slices)


def test_a_card_in_slices_gives_a_run_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibrary(sliced()))
    gpus, note, _, _ = Nvml().read()
    (card,) = gpus
    assert note == ""
    assert card.mig
    assert [part.uuid for part in card.slices] == ["MIG-aaaa", "MIG-bbbb"]
    assert [part.total for part in card.slices] == [20 * GIB, 10 * GIB]
    assert card.slices[0].capability == (8, 9)
    machine = machine_of(gpus)
    assert machine.devices() == list(card.slices)
    best = machine.best_gpu()
    assert best is not None
    assert best.uuid == "MIG-bbbb"


@pytest.mark.parametrize(
    ("setting", "usable"),
    [("MIG-b", ["MIG-bbbb"]), ("0", ["MIG-aaaa"]), ("GPU-c", ["MIG-aaaa"]), ("MIG-x", [])],
)
def test_slices_are_chosen_by_the_same_variable(
    monkeypatch: pytest.MonkeyPatch, setting: str, usable: list[str]
) -> None:
    install(monkeypatch, FakeLibrary(sliced()))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)
    gpus, _, _, _ = Nvml().read()
    assert [gpu.uuid for gpu in machine_of(gpus).devices()] == usable


def test_mig_mode_without_a_slice_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeLibrary(Card(slices=[])))
    gpus, note, _, _ = Nvml().read()
    assert note == "GPU 0 is in MIG mode and has no slice"
    assert machine_of(gpus).best_gpu() is None


def machine_of(gpus: tuple[Gpu, ...]) -> Machine:
    return Machine(
        taken=0.0, gpus=gpus, gpu_note="", driver=None, cpu_name="", cores=1, cpu_percent=None,
        ram_total=GIB, ram_available=GIB, disk_total=None, disk_free=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        ("1,9,0", [1]),
        ("0,0", []),
        ("1,0,1", []),
        ("GPU-b,GPU-b2", []),
        ("1st,+2,two", [1, 2]),
        ("0,GPU-b", [0]),
        ("GPU-b,0", [1]),
        ("GPU-b,GPU-a3", [1, 2]),
        ("all", []),
        ("+", []),
        ("९", []),
        ("99999999999999999999", []),
        ("GPU-b", [1]),
        ("GPU-x", []),
        ("GPU-", []),
        (" 1 , 2 ", [1, 2]),
    ],
)
def test_cuda_visible_devices(setting: str, expected: list[int]) -> None:
    cards = [["GPU-a1"], ["GPU-b2"], ["GPU-a3"]]
    assert visible_places(setting, cards) == [(card, 0) for card in expected]
