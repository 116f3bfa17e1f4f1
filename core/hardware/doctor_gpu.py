"""The doctor's look at the GPUs: each card and slice, and a 4-bit layer tried for real."""

from __future__ import annotations

import os
import signal
import subprocess

from core.children import command
from core.errors import describe_os_error
from core.hardware.facts import NA, gpu_facts, memory_text, others_text, slowed_seriously
from core.hardware.findings import Finding, Verdict
from core.hardware.machine import Gpu, Machine
from core.runs.causes import known_cause
from core.text import clip
from core.units import GIB

LINEAR_SECONDS = 120.0
BF16_CAPABILITY = (8, 0)
LITTLE_FREE = 4 * GIB
MOST_WORDS = 200
REINSTALL = "Reinstall bitsandbytes for this CUDA version; LoRA works without it."
REMEDIES = {
    "gpu-out-of-memory": "End what else runs on it (`nvidia-smi`), then try again.",
    "cuda-mismatch": "Install the torch build for this driver and GPU (pytorch.org).",
    "cuda-error": "Try again; if it comes back, restart the machine or take another GPU.",
}
"""By the code of what is known of such words; anything else lies with bitsandbytes."""
SHORT_FACTS = ("utilisation", "temperature", "power", "clocks", "PCIe", "capability")


def look_at_gpus(machine: Machine) -> list[Finding]:
    """The driver, and a line for each card and each of its slices."""
    if not machine.gpus:
        detail = f"{machine.gpu_note}; training runs on the CPU, with small models"
        return [Finding("GPU", "warning", detail, _remedy(machine.gpu_note))]
    driver = f"{machine.driver or NA}, CUDA {machine.cuda or NA}"
    found = [Finding("driver", "ok", driver)]
    for gpu in machine.gpus:
        found.append(_card(gpu, taken=gpu == machine.best_gpu()))
        found += [_slice(part, number) for number, part in enumerate(gpu.slices)]
    if machine.best_gpu() is None:
        detail = f"none can be used: {machine.gpu_note or 'no slice is free'}"
        remedy = _remedy(machine.gpu_note) if "CUDA_VISIBLE" in machine.gpu_note else ""
        found.append(Finding("GPU", "warning", f"{detail}; training runs on the CPU", remedy))
    return found


def _remedy(note: str) -> str:
    if "CUDA_VISIBLE_DEVICES" in note:
        return "Unset it, or name each GPU once, by its index or its UUID."
    if "permission" in note:
        return "Let this user read /dev/nvidia*, or ask whoever runs the machine."
    if "driver" in note:
        return "Install the NVIDIA driver, or start the container with its GPUs."
    return "Small models train here; rent a machine with an NVIDIA GPU for those above 1B."


def _card(gpu: Gpu, *, taken: bool) -> Finding:
    what = f"GPU {gpu.index}"
    if gpu.name is None and gpu.total is None:
        remedy = "`nvidia-smi` may say why; a lost card comes back with a restart of the machine."
        return Finding(what, "warning", "does not answer", remedy)
    known = dict(gpu_facts(gpu))
    facts = [f"{gpu.name or 'unnamed'}, {memory_text(gpu)}"]
    facts += [f"{key} {known[key]}" for key in SHORT_FACTS]
    facts += [text for text in (others_text(gpu.processes),) if text]
    verdict, words, remedy = _judged(gpu, taken)
    return Finding(what, verdict, "; ".join([*facts, *([words] if words else [])]), remedy)


def _judged(gpu: Gpu, taken: bool) -> tuple[Verdict, str, str]:
    """The gravest that can be said of a card: verdict, words, remedy. `taken`: a run would take
    it."""
    serious = slowed_seriously(gpu)
    if not gpu.visible:
        return "warning", "hidden by CUDA_VISIBLE_DEVICES", ""
    if gpu.too_old:
        verdict: Verdict = "bad" if taken else "warning"
        return verdict, "too old for torch", "Use a GPU of compute capability 7.0 or newer."
    if gpu.mig and not gpu.slices:
        return "warning", "in MIG mode without a slice", "`nvidia-smi mig -cgi` makes one."
    if gpu.free is None and not gpu.mig:
        return "warning", "its free memory cannot be read", "It cannot be planned for."
    if serious:
        words = f"slowed by {', '.join(serious)}"
        return "warning", words, "Look after its cooling and its power supply."
    if gpu.capability is not None and gpu.capability < BF16_CAPABILITY:
        return "warning", "has no bf16: trains in fp16", ""
    if gpu.free is not None and gpu.free < LITTLE_FREE and not gpu.mig:
        return "warning", "little memory is free", "End what else runs on it (`nvidia-smi`)."
    return "ok", "", ""


def _slice(gpu: Gpu, number: int) -> Finding:
    """A slice has memory and processes of its own, nothing else."""
    facts = [f"{gpu.name or 'unnamed'}, {memory_text(gpu)}"]
    facts += [text for text in (others_text(gpu.processes),) if text]
    if not gpu.visible:
        facts.append("hidden by CUDA_VISIBLE_DEVICES")
    verdict: Verdict = "ok" if gpu.visible and gpu.free is not None else "warning"
    return Finding(f"GPU {gpu.index}.{number}", verdict, "; ".join(facts))


def try_four_bit_linear(gpu: Gpu) -> Finding:
    """QLoRA's one special need, tried for real: a 4-bit layer forward and backward, on the GPU
    that a run would take."""
    pinned = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": gpu.uuid or str(gpu.index),
    }
    try:
        child = subprocess.run(
            command("core.models.four_bit"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **pinned},
            timeout=LINEAR_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        detail = f"no answer in {LINEAR_SECONDS:.0f} seconds"
        return Finding("4-bit layer", "bad", detail, "Look with `nvidia-smi`, then run it again.")
    except OSError as error:
        return Finding("4-bit layer", "bad", describe_os_error(error, "start it").message)
    if child.returncode == 0:
        return Finding("4-bit layer", "ok", child.stdout.strip())
    detail = clip(last_words(child.stderr) or ended(child.returncode), MOST_WORDS)
    cause = known_cause(child.stderr)
    remedy = REMEDIES.get(cause.code, REINSTALL) if cause else REINSTALL
    return Finding("4-bit layer", "bad", detail, remedy)


def ended(code: int) -> str:
    """How a child ended that said nothing."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def last_words(stderr: str) -> str:
    """What a child ended with: the exception of its last traceback, else its last line. Libraries
    write pages of advice below the line that counts."""
    _, traceback, tail = stderr.rpartition("Traceback (most recent call last):")
    lines = [line.rstrip() for line in tail.splitlines() if line.strip()]
    if not traceback:
        return lines[-1].strip() if lines else ""
    at = next((i for i, line in enumerate(lines) if not line.startswith(" ")), None)
    if at is None:
        return ""
    bare = lines[at].endswith(":") and at + 1 < len(lines)  # the message begins with a new line
    return f"{lines[at]} {lines[at + 1].strip()}" if bare else lines[at]
