"""`tunedeck doctor`: is this machine ready, and if not, what to do about it.

The training stack is judged by its metadata and by a child process, never imported here.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from core.hardware.doctor_gpu import look_at_gpus, try_four_bit_linear
from core.hardware.findings import Finding
from core.hardware.machine import Gpu, Machine
from core.hardware.readings import read_machine
from core.hardware.stack import installed, torch_cuda, torch_text
from core.models.hub_cache import cache_root, offline
from core.paths import home
from core.units import GIB, bytes_text

HUB_SECONDS = 2.0
LITTLE_DISK, ENOUGH_DISK = 2 * GIB, 20 * GIB
STACK = {
    "transformers": ((5, 17), (6, 0)),
    "trl": ((1, 16), (2, 0)),
    "peft": ((0, 19), (1, 0)),
    "accelerate": ((1, 11), None),
    "datasets": ((4, 4), None),
}


def examine() -> list[Finding]:
    """Look at everything; the order is that in which one would repair it."""
    machine = read_machine()
    torch = _torch(machine)
    findings = [_python(), torch, *_stack(), *look_at_gpus(machine)]
    if (gpu := machine.best_gpu()) is not None:
        findings.append(_four_bit(torch, gpu))
    findings += [_cpu(machine), _memory(machine), _disk(machine), _cache(machine)]
    return [*findings, _home(), _hub(), _terminal()]


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """The shape of `doctor --json`."""
    return {"ready": ready(findings), "findings": [asdict(finding) for finding in findings]}


def ready(findings: list[Finding]) -> bool:
    """Whether a run can be started at all."""
    return all(finding.verdict != "bad" for finding in findings)


def _python() -> Finding:
    text = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("Python", "ok", f"{text} ({sys.executable})")


def _torch(machine: Machine) -> Finding:
    number = installed("torch")
    if number is None:
        return Finding("torch", "bad", "not installed", "Run `pip install torch`.")
    cuda, build = torch_cuda(), torch_text()
    if machine.gpus and cuda is None:
        remedy = "Install a CUDA build of torch (pytorch.org, “Get started”)."
        return Finding("torch", "bad", f"{build}, but there is a GPU", remedy)
    if cuda and machine.cuda and _number(machine.cuda)[0] < _number(cuda)[0]:
        remedy = f"Update the driver, or install torch for CUDA {machine.cuda} or older."
        return Finding("torch", "bad", f"{build}; the driver knows CUDA {machine.cuda}", remedy)
    return Finding("torch", "ok", build)


def _stack() -> list[Finding]:
    found = [_package(name, *bounds) for name, bounds in STACK.items()]
    number = installed("bitsandbytes")
    if number is None:
        remedy = "Run `pip install bitsandbytes`; without it there is no QLoRA."
        return [*found, Finding("bitsandbytes", "warning", "not installed", remedy)]
    return [*found, Finding("bitsandbytes", "ok", number)]


def _package(name: str, least: tuple[int, ...], below: tuple[int, ...] | None) -> Finding:
    number = installed(name)
    wanted = f"{name}>={_dotted(least)}" + (f",<{_dotted(below)}" if below else "")
    if number is None:
        return Finding(name, "bad", "not installed", f"Run `pip install '{wanted}'`.")
    parts = _number(number)
    if parts < least or (below is not None and parts >= below):
        return Finding(name, "bad", f"{number}, not in range", f"Run `pip install '{wanted}'`.")
    return Finding(name, "ok", number)


def _number(text: str) -> tuple[int, ...]:
    """`5.23.0+cpu` → (5, 23, 0)."""
    parts = text.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _dotted(parts: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in parts)


def _four_bit(torch: Finding, gpu: Gpu) -> Finding:
    """Tried where torch can reach the GPU at all, and where there is what makes such layers."""
    if torch.verdict == "bad":
        return Finding("4-bit layer", "warning", "not tried: torch does not reach the GPU")
    if installed("bitsandbytes") is None:
        return Finding("4-bit layer", "warning", "not tried: bitsandbytes is not installed")
    return try_four_bit_linear(gpu)


def _cpu(machine: Machine) -> Finding:
    cores = f"{machine.cores} core{'s' if machine.cores != 1 else ''}"
    return Finding("CPU", "ok", f"{machine.cpu_name}, {cores} for this process")


def _memory(machine: Machine) -> Finding:
    detail = f"{bytes_text(machine.ram_available)} of {bytes_text(machine.ram_total)} free"
    if machine.ram_available < 3 * GIB:
        return Finding("RAM", "warning", detail, "Close other programs: a run needs some 3 GiB.")
    return Finding("RAM", "ok", detail)


def _disk(machine: Machine) -> Finding:
    if machine.disk_free is None:
        return Finding("disk", "warning", "cannot be read")
    detail = f"{bytes_text(machine.disk_free)} free for {home()}"
    if machine.disk_free < LITTLE_DISK:
        return Finding("disk", "bad", detail, "Free some space or set TUNEDECK_HOME elsewhere.")
    if machine.disk_free < ENOUGH_DISK:
        remedy = "Enough for small models; an 8B model with its merged copy takes some 40 GiB."
        return Finding("disk", "warning", detail, remedy)
    return Finding("disk", "ok", detail)


def _cache(machine: Machine) -> Finding:
    """The disk that models are downloaded to, which may be another one."""
    if machine.cache_free is None:
        return Finding("model cache", "warning", f"{cache_root()} cannot be read")
    detail = f"{bytes_text(machine.cache_free)} free for {cache_root()}"
    if machine.cache_free < ENOUGH_DISK:
        remedy = "An 8B model is a download of 16 GiB; HF_HOME moves the cache."
        return Finding("model cache", "warning", detail, remedy)
    return Finding("model cache", "ok", detail)


def _home() -> Finding:
    """Whether the home can be written, by writing."""
    folder = home()
    place = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    try:
        with tempfile.NamedTemporaryFile(dir=place):
            return Finding("home", "ok", str(folder))
    except OSError as error:
        detail = f"cannot write to {place}: {(error.strerror or 'unknown reason').lower()}"
        return Finding("home", "bad", detail, "Set TUNEDECK_HOME to a folder of yours.")


def _hub() -> Finding:
    if offline():
        return Finding("hub", "ok", "not asked: HF_HUB_OFFLINE is set")
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    problem = _in_time(lambda: _ask(address), HUB_SECONDS)
    if problem is None:
        return Finding("hub", "ok", f"{address} answers")
    remedy = "Models must be local; the demo's model comes from the Python package index."
    return Finding("hub", "warning", f"{address} does not answer ({problem})", remedy)


def _ask(address: str) -> str | None:
    """None when the address answers at all, else why not."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        with urlopen(Request(address, method="HEAD"), timeout=HUB_SECONDS):
            return None
    except HTTPError:
        return None  # it answered
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))[:80]


def _in_time(question: Callable[[], str | None], seconds: float) -> str | None:
    """The answer, or `no answer`: a socket's time-out does not bound a name's look-up."""
    from threading import Thread

    answers: list[str | None] = []
    thread = Thread(target=lambda: answers.append(question()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else f"no answer within {seconds:.0f} s"


def _terminal() -> Finding:
    term = os.environ.get("TERM", "")
    if os.environ.get("COLORTERM") in ("truecolor", "24bit"):
        return Finding("terminal", "ok", f"{term or 'unnamed'}, true colour")
    if "256color" in term:
        return Finding("terminal", "ok", f"{term}, 256 colours")
    if term in ("", "dumb"):
        detail = "no terminal" if not term else "TERM=dumb"
        return Finding("terminal", "warning", detail, "The app needs a terminal; commands do not.")
    return Finding("terminal", "ok", f"{term}, 16 colours; TERM=xterm-256color may show more")
