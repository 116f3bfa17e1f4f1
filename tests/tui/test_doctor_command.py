"""`tunedeck doctor`: what it prints in a terminal of any width."""

from __future__ import annotations

import pytest

from core.hardware.findings import Finding
from tui.commands.machine import finding_lines

FINDINGS = [
    Finding("Python", "ok", "3.12.4 (/usr/bin/python3)"),
    Finding("GPU 0", "warning", "NVIDIA L4, 23.0 GiB free of 24.0 GiB; \x1b[31mred", "Look at it."),
    Finding("model cache", "bad", "1.00 GiB free for /cache", "Free some space, then try again."),
]


@pytest.mark.parametrize("columns", [34, 40, 80, 200])
def test_it_keeps_to_the_width_of_the_terminal(columns: int) -> None:
    lines = finding_lines(FINDINGS, columns)
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    assert "NVIDIA L4, 23.0 GiB free of 24.0 GiB; ␛[31mred" in text
    assert "→ Free some space, then try again." in text


def test_on_a_terminal_of_no_width_words_stay_whole() -> None:
    assert any("NVIDIA L4, 23.0" in line for line in finding_lines(FINDINGS, 1))
