"""First frame, resident memory, idle traffic and `--help`, beside a ten-line Textual app.

    python -m tests.bench.start_up

Everything is measured in one loop, in a 120×36 pty, median of five, and printed as a table with
ratios to the baseline. Nothing is asserted.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
BASELINE = """
from textual.app import App, ComposeResult
from textual.widgets import Footer, Header, Static

class Baseline(App):
    BINDINGS = [("q", "quit", "Quit")]
    def compose(self) -> ComposeResult:
        yield Header()
        yield Static("ten lines")
        yield Footer()

Baseline().run()
"""
APP = "from tui.cli import main; main([])"


class Terminal:
    """A program in a 120×36 pty."""

    def __init__(self, code: str, environment: dict[str, str]) -> None:
        self.started = time.perf_counter()
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-P", "-c", code], environment)
        size = struct.pack("HHHH", 36, 120, 0, 0)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, size)

    def read_for(self, seconds: float, until: bytes | None = None) -> bytes:
        """What it writes within `seconds`, or until `until` has come."""
        received, deadline = b"", time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.descriptor], [], [], left)[0]:
                try:
                    received += os.read(self.descriptor, 65536)
                except OSError:  # it has ended
                    break
            if until is not None and until in received:
                break
        return received

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(row for row in status.splitlines() if row.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.descriptor)


def first_frame(code: str, marker: bytes, environment: dict[str, str]) -> float:
    """Seconds from exec to the frame that holds `marker`."""
    terminal = Terminal(code, environment)
    seen = terminal.read_for(20, until=marker)
    seconds = time.perf_counter() - terminal.started
    terminal.close()
    if marker not in seen:
        raise SystemExit(f"no first frame: {seen[-400:]!r}")
    return seconds


def at_rest(environment: dict[str, str]) -> tuple[float, int, int]:
    """Bytes a second of an idle Home; resident bytes there and after a look at every place."""
    terminal = Terminal(APP, environment)
    terminal.read_for(5)
    idle = len(terminal.read_for(20)) / 20
    home = terminal.resident_bytes()
    for place in "2345":
        terminal.type(place)
        terminal.read_for(2)
        terminal.type("\x1b")
        terminal.read_for(0.5)
    everywhere = terminal.resident_bytes()
    terminal.close()
    return idle, home, everywhere


def command_seconds(*words: str, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", *words], env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def medians(*measure: Callable[[], float]) -> list[float]:
    """The median of each, measured in turn within the same loop."""
    rounds = [[one() for one in measure] for _ in range(ROUNDS + 1)][1:]  # the first warms caches
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "TUNEDECK_HOME": home,
            "PYTHONPATH": str(ROOT),
        }
        plain, app = medians(
            lambda: first_frame(BASELINE, b"ten lines", environment),
            lambda: first_frame(APP, b"Home", environment),
        )
        click, help_text = medians(
            lambda: command_seconds("-c", "import click", environment=environment),
            lambda: command_seconds("-m", "tui.cli", "--help", environment=environment),
        )
        idle, resident, everywhere = at_rest(environment)
    print(f"{'':<34}{'baseline':>12}{'tunedeck':>12}{'ratio':>8}")
    print(f"{'first frame (ten-line app), s':<34}{plain:>12.3f}{app:>12.3f}{app / plain:>8.2f}")
    print(
        f"{'--help (import click), s':<34}{click:>12.3f}{help_text:>12.3f}{help_text / click:>8.2f}"
    )
    print(f"{'resident, Home, MB':<34}{'':>12}{resident / 1e6:>12.1f}")
    print(f"{'resident, after every place, MB':<34}{'':>12}{everywhere / 1e6:>12.1f}")
    print(f"{'idle traffic, bytes/s':<34}{'':>12}{idle:>12.0f}")


if __name__ == "__main__":
    main()
