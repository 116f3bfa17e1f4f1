"""Where the app can be shown."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from tui.launch import has_terminal


@pytest.mark.parametrize("redirected", ["stdin", "stdout", "stderr"])
def test_the_app_needs_all_ends_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, redirected: str
) -> None:
    """It draws on stderr: with that in a file, a person would look at nothing."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, SimpleNamespace(isatty=lambda: True))
    assert has_terminal()
    monkeypatch.setattr(sys, redirected, SimpleNamespace(isatty=lambda: False))
    assert not has_terminal()
