"""CPU, RAM and disk, within the limits that a container sets."""

from __future__ import annotations

import math
import os
import platform
import shutil
import time
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
CPU_SECONDS = 0.5  # the kernel counts in hundredths: over less, a share means nothing
_cpu_readings: list[tuple[float, float | None]] = []  # when it was last counted, and the share


def memory() -> tuple[int, int]:
    """(total, available) RAM in bytes; a container's limit counts where it is lower."""
    import psutil

    seen = psutil.virtual_memory()
    total, available = int(seen.total), int(seen.available)
    for folder in cgroup_folders():
        limit, used = _cgroup_memory(folder)
        if limit is not None and limit < total:
            total = limit
            available = min(available, max(0, limit - (used or 0)))
    return total, available


def cores() -> int:
    """The cores this process may use, a container's CPU quota included."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity
        count = os.cpu_count() or 1
    for folder in cgroup_folders():
        quota = _cgroup_quota(folder)
        if quota is not None:
            count = min(count, max(1, math.ceil(quota)))
    return count


def cpu_percent() -> float | None:
    """The share of all cores in use between the last two counts; None before there are two."""
    import psutil

    now = time.monotonic()
    if _cpu_readings and now - _cpu_readings[0][0] < CPU_SECONDS:
        return _cpu_readings[0][1]
    share = float(psutil.cpu_percent(None))  # psutil counts from its last call
    _cpu_readings[:] = [(now, share if _cpu_readings else None)]
    return _cpu_readings[0][1]


@cache
def cpu_name() -> str:
    """The processor as its maker calls it, or at least its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Hardware") and value.strip():
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "CPU"


def disk(folder: Path) -> tuple[int | None, int | None]:
    """(total, free) bytes of the disk that holds `folder`, which need not exist yet."""
    for place in (folder, *folder.parents):
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        return usage.total, usage.free
    return None, None


@cache
def cgroup_folders() -> tuple[Path, ...]:
    """The control groups of this process, innermost first; limits of all of them hold."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        wanted = [name for name in ("memory", "cpu") if name in controllers.split(",")]
        for root in [CGROUP] if not controllers else [CGROUP / name for name in wanted]:
            place = root / path.lstrip("/")
            folders += [f for f in (place, *place.parents) if f.is_relative_to(root)]
    return tuple(folder for folder in dict.fromkeys(folders) if folder.is_dir())


def _cgroup_memory(folder: Path) -> tuple[int | None, int | None]:
    """(limit, used without what the kernel would give back) of one control group."""
    limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
    if limit is None:
        return None, None
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
    return limit, None if used is None else max(0, used - _inactive_file(folder))


def _inactive_file(folder: Path) -> int:
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    except (OSError, ValueError):
        pass  # no statistics: count page cache as used
    return 0


def _cgroup_quota(folder: Path) -> float | None:
    """CPUs that a control group may use, or None without a quota."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass  # the older layout keeps two files
    quota_us = _number(folder / "cpu.cfs_quota_us")
    period_us = _number(folder / "cpu.cfs_period_us")
    return quota_us / period_us if quota_us and period_us else None


def _number(file: Path) -> int | None:
    """A positive number in a one-line file (`max` and −1 mean no limit)."""
    try:
        value = int(file.read_text())
    except (OSError, ValueError):
        return None
    return value if value > 0 else None
