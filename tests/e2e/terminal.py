"""A real terminal for end-to-end tests: tmux on a socket of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """One tmux window that runs a command; `screen` is what a person would see."""

    def __init__(
        self, words: list[str], home: Path, *, columns: int = 120, rows: int = 36, term: str = ""
    ) -> None:
        if shutil.which("tmux") is None:
            raise RuntimeError("the end-to-end tests need tmux")
        self._socket = f"tunedeck-{uuid.uuid4().hex[:8]}"
        environment = {"TUNEDECK_HOME": str(home), "PYTHONPATH": str(ROOT), "TERM": term}
        settings = [f"{key}={value}" for key, value in environment.items() if value]
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows),
                   "env", *settings, *words)  # fmt: skip
        self._tmux("set-option", "-g", "remain-on-exit", "on")

    @classmethod
    def tunedeck(cls, *words: str, home: Path, columns: int = 120, rows: int = 36) -> Terminal:
        """The `tunedeck` command of this Python."""
        command = [sys.executable, "-P", "-m", "tui.cli", *words]
        return cls(command, home, columns=columns, rows=rows)

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, *words], capture_output=True, text=True, check=False
        )
        return done.stdout

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    @property
    def pid(self) -> int:
        """The program's process (tmux replaces itself by it through `env`)."""
        return int(self._tmux("display-message", "-p", "#{pane_pid}"))

    @property
    def over(self) -> bool:
        return self._tmux("display-message", "-p", "#{pane_dead}").strip() == "1"

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def wait_for(self, *texts: str, seconds: float = 30) -> str:
        """The first screen that shows one of `texts`; AssertionError when none does in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            screen = self.screen
            if any(text in screen for text in texts):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"none of {texts} within {seconds} s:\n{self.screen}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def close(self) -> None:
        """Close the terminal as a person closes the window: what runs in it gets SIGHUP."""
        self._tmux("kill-server")
