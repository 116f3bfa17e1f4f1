"""`train --auto-resume` as a scheduler runs it: its SIGTERM is a stop with a checkpoint."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import yaml

from core.runs.directory import find_run
from core.runs.state import stored_state
from tests.core.runs.conftest import home, stages
from tui.cli import main

__all__ = ["home", "stages"]


def test_sigterm_stops_the_run_and_waits_for_it(
    stages: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stages("sleeps")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one"}\n')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "night", "model": "m", "data": str(rows)}))

    def terminate() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            listens = signal.getsignal(signal.SIGTERM) is not handler
            if listens and stored_state(find_run("last")).step == 7:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.05)

    handler = signal.getsignal(signal.SIGTERM)
    sender = Thread(target=terminate)
    sender.start()
    try:
        with pytest.raises(SystemExit) as ended:
            main(["train", str(recipe), "--auto-resume", "--json"])
    finally:
        sender.join()
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["state"] == "stopped"
