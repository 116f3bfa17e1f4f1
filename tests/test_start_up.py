"""What the app and the command line load to start: nothing heavy, whatever is asked first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "torch",
    "transformers",
    "datasets",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "pyarrow",
    "pandas",
    "numpy",
}


def modules_after(code: str, folder: Path) -> set[str]:
    """The top-level modules that are loaded in a fresh Python after running `code`."""
    listing = (
        "\nimport sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + listing],
        env={**os.environ, "TUNEDECK_HOME": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


HELP = "from tui.cli import cli\ncli.main(['--help'], standalone_mode=False)"
RUNS = "from tui.cli import cli\ncli.main(['runs'], standalone_mode=False)"
FIRST_FRAME = """
import asyncio
from tui.app import TuneDeck
async def first_frame():
    async with TuneDeck().run_test(size=(120, 36)) as pilot:
        await pilot.pause(0.3)
asyncio.run(first_frame())
"""


@pytest.mark.parametrize("code", [HELP, RUNS, FIRST_FRAME], ids=["help", "runs", "first-frame"])
def test_nothing_heavy_is_loaded_to_start(code: str, tmp_path: Path) -> None:
    assert not modules_after(code, tmp_path) & HEAVY


def test_help_loads_no_command(tmp_path: Path) -> None:
    assert not modules_after(HELP, tmp_path) & {"textual", "pydantic", "yaml", "rich"}


def test_the_contracts_cover_all_that_starts() -> None:
    """A module that this test reached only by luck would escape import-linter's list."""
    code = (
        "import core.recipe, core.runs.supervisor, core.runs.history, core.runs.diagnosis\n"
        "import core.hardware.readings, core.models.catalogue, core.planning.planner\n"
        "import core.data.client, core.chat.client, core.evaluation.client, core.demo\n"
    )
    assert not modules_after(code, ROOT) & HEAVY
