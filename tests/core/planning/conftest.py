"""Plans in a home of their own: what the tester typed or measured must not count."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_home(tunedeck_home: Path) -> None:
    """No prices, measurements or presets but those of the test."""
