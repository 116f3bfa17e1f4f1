"""Why a run ended otherwise than well: one sentence, and what to do."""

from __future__ import annotations

import re
import shutil
import signal
from dataclasses import replace

from core.errors import UserError
from core.runs.causes import known_cause
from core.runs.directory import RunDirectory
from core.runs.events import Event
from core.runs.state import Exit
from core.runs.tail import tail_events, tail_lines
from core.text import clip, printable
from core.units import bytes_text

RESUME = "`tunedeck resume` goes on from the last checkpoint."
LOW_RAM_BYTES = 400 * 1024**2
LOW_DISK_BYTES = 1024**2
DETAIL_WIDTH = 240
_NOISE = re.compile(r"^\s|^\d+%\||^(Traceback|warnings?\.warn|During handling|The above)|Warning:")


def classify(
    run: RunDirectory, returncode: int, since: float = 0.0, *, out_of_memory: bool = False
) -> Exit:
    """Why a stage of the run died. `since`: when it began (older events are another's).

    `out_of_memory`: the kernel has killed something for memory in the meantime.
    """
    told = _told(run, since)
    if told is not None:
        return told
    if returncode < 0:
        return _killed(run, -returncode, out_of_memory)
    lines = tail_lines(run.log)
    cause = known_cause(_last_error(lines))
    if cause is not None:
        return cause
    last = _last_meaningful(lines)
    message = f"The worker ended with exit code {returncode}"
    return Exit("unknown", f"{message}: {last}" if last else f"{message}.", _see_log(run))


def vanished(run: RunDirectory) -> Exit:
    """Why a run is gone that has left neither a lock nor a last word."""
    if _disk_free(run) < LOW_DISK_BYTES:
        return Exit("disk-full", "The run died: its disk is full.", f"Free some space. {RESUME}")
    told = _told(run, 0.0)
    if told is not None:
        return told
    sample = _scarcest_sample(run)
    if sample and _restarted_since(sample["t"]):
        return Exit("restarted", "The machine was restarted while the run was going on.", RESUME)
    if sample and _ram_gone(sample):
        return _out_of_memory(sample)
    return Exit(
        "killed",
        "The run was killed from outside (kill -9, or the end of its container or job).",
        RESUME,
    )


def explain(error: BaseException) -> Exit:
    """An exception as a sentence. The traceback belongs into the log, not here."""
    if isinstance(error, UserError):
        return Exit("cannot", printable(error.message), printable(error.remedy))
    text = f"{type(error).__name__}: {error}"
    detail = _one_line(str(error)) or type(error).__name__
    cause = known_cause(text)
    if cause is None:
        return Exit("unknown", f"Training failed: {_one_line(text)}", "The log says more.")
    return replace(cause, message=f"{cause.message} ({detail})")


def _told(run: RunDirectory, since: float) -> Exit | None:
    """What the stage itself reported last, if that was an error."""
    for event in reversed(tail_events(run.events)):
        if event.get("t", 0.0) < since or event["kind"] in ("state", "done"):
            return None
        if event["kind"] == "error":
            return Exit(
                str(event.get("code", "unknown")),
                str(event.get("message", "")),
                str(event.get("remedy", "")),
            )
    return None


def _killed(run: RunDirectory, number: int, out_of_memory: bool) -> Exit:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number == signal.SIGKILL:
        sample = _scarcest_sample(run)
        if out_of_memory or (sample and _ram_gone(sample)):
            return _out_of_memory(sample)
        return Exit(
            "killed",
            "The worker was killed with SIGKILL (kill -9, or a memory or time limit).",
            RESUME,
        )
    if number == signal.SIGBUS and _disk_free(run) < LOW_DISK_BYTES:
        return Exit("disk-full", "The worker died: the disk is full.", f"Free space. {RESUME}")
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE):
        cause = known_cause(_last_error(tail_lines(run.log)))
        return cause or Exit(
            "crashed",
            f"The worker crashed inside a library ({name}).",
            f"`tunedeck doctor` checks the libraries. {RESUME}",
        )
    return Exit("killed", f"The worker was ended by {name}.", RESUME)


def oom_kills() -> int:
    """How many processes Linux has killed for want of memory since it started."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def _out_of_memory(sample: Event | None) -> Exit:
    left = f" ({bytes_text(sample.get('ram_available'))} was free)" if sample else ""
    return Exit(
        "out-of-memory",
        f"The worker was killed as the machine ran out of RAM{left}.",
        "Choose a smaller model, lower training.micro_batch, or use a machine with more RAM.",
    )


def _scarcest_sample(run: RunDirectory) -> Event | None:
    """Of the last seconds' samples the one with the least free RAM."""
    samples = [sample for sample in tail_events(run.gpu)[-5:] if sample.get("ram_available")]
    return min(samples, key=lambda sample: float(sample["ram_available"]), default=None)


def _ram_gone(sample: Event) -> bool:
    left = sample.get("ram_available")
    return isinstance(left, int | float) and left < LOW_RAM_BYTES


def _restarted_since(moment: float) -> bool:
    import psutil

    return bool(psutil.boot_time() > moment)


def _disk_free(run: RunDirectory) -> int:
    try:
        return shutil.disk_usage(run.path).free
    except OSError:
        return LOW_DISK_BYTES


def _last_error(lines: list[str]) -> str:
    """The lines that may name the cause: from the last traceback on, else the last few."""
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback")]
    return "\n".join(lines[starts[-1] :] if starts else lines[-5:])


def _last_meaningful(lines: list[str]) -> str:
    for line in reversed(lines):
        if line.strip() and not _NOISE.search(line):
            return _one_line(line)
    return ""


def _one_line(text: str) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return clip(printable(first, single_line=True), DETAIL_WIDTH)


def _see_log(run: RunDirectory) -> str:
    return f"The log says more: {printable(str(run.log), single_line=True)}"
