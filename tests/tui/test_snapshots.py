"""Pictures of Home, Data and Plan with frozen readings: what a change does to the look."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from core.data.report import Report, TokenStatistics
from core.memory.prediction import Parts, Prediction
from core.models.catalogue import ModelCard, ModelShape
from core.paths import runs_root
from core.planning.candidates import Basis, Candidate, Hyper, Plan
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.runs.state import Exit, RunState, write_state
from tests.tui.conftest import GIB, sees
from tui.app import TuneDeck
from tui.deck import Deck
from tui.widgets.path_input import PathInput

SIZES = [(80, 24), (120, 36)]
pytestmark = pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x36"])


@pytest.fixture(autouse=True)
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Callable[[int], None]) -> None:
    """One GPU that never changes, and paths that are the same everywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEDECK_HOME", "home")
    machine(1)


def test_home(snap_compare: Any, size: tuple[int, int]) -> None:
    _run("demo", 7200, "HuggingFaceTB/SmolLM2-135M-Instruct", phase="finished", step=60,
         total_steps=60, loss=0.0121, eval_loss=0.0142)  # fmt: skip
    _run("tickets", 300, "Qwen/Qwen3-8B", phase="failed", step=17, total_steps=900,
         loss=float("nan"), exit=Exit("oom", "The GPU ran out of memory at step 17: 23.4 of "
         "24.0 GiB were in use.", "Halve micro_batch, or train with qlora."))  # fmt: skip
    assert snap_compare(
        TuneDeck(), terminal_size=size, run_before=lambda pilot: sees(pilot, "ran out of memory")
    )


def _run(name: str, age: float, model: str, **state: Any) -> None:
    run = RunDirectory(runs_root() / f"{name}-20260601-12000{len(name) % 10}")
    run.path.mkdir(parents=True)
    recipe = Recipe.model_validate({"name": name, "model": model, "data": "rows.jsonl"})
    run.recipe.write_text(recipe.to_yaml(), encoding="utf-8")
    write_state(run, RunState(created=time.time() - age - 30, **state))


def test_data(
    snap_compare: Any, size: tuple[int, int], tiny_rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny-model").symlink_to(tiny_model)
    deck = Deck(source=str(tiny_rows), model=str(tmp_path / "tiny-model"))

    async def look_at_tokens(pilot: Pilot[None]) -> None:
        await sees(pilot, "96 usable")
        await sees(pilot, "trained (")
        await sees(pilot, "Please turn")
        await pilot.press("t")
        await sees(pilot, "learns to stop")
        pilot.app.screen.query_one(PathInput).value = "rows.jsonl"
        await pilot.pause(0.5)

    assert snap_compare(TuneDeck(deck, "data"), terminal_size=size, run_before=look_at_tokens)


def test_plan(snap_compare: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = (
        _candidate("org/Small-1B-Instruct", 1, "lora", 6.5, fits=True),
        _candidate("org/Small-1B-Instruct", 1, "full", 14.25, fits=True),
        _candidate("org/Large-32B-Instruct", 32, "qlora", 31, fits=False),
    )
    made = Plan("GPU 0", 22 * GIB, True, candidates, 0, ())
    monkeypatch.setattr("tui.plan_session.plan", lambda *args, **options: made)
    tokens = TokenStatistics(120_000, 40_000, 110, 210, 240, 256, 0, counted_rows=1000)
    report = Report("rows.jsonl", "messages", 1000, 1000, tokens=tokens)
    assert snap_compare(
        TuneDeck(Deck(source="rows.jsonl", report=report), "plan"),
        terminal_size=size,
        run_before=lambda pilot: sees(pilot, "peak, the sum"),
    )


def _candidate(model: str, billions: int, method: Any, peak: float, *, fits: bool) -> Candidate:
    shape = ModelShape(
        parameters=billions * 10**9, in_linear=billions * 9 * 10**8, embedding=10**8,
        model_type="llama", layers=16, hidden=2048, intermediate=8192, heads=32, kv_heads=8,
        head_dim=64, vocabulary=128_256, tied=True, context=8192,
    )  # fmt: skip
    shares = (0.4, 0.02, 0.02, 0.04, 0.3, 0.1, 0.07)
    sizes = [round(share * peak * GIB) for share in shares]
    parts = Parts(*sizes, runtime=round(peak * GIB) - sum(sizes))
    return Candidate(
        model=ModelCard(model, shape, licence="apache-2.0", allows="commercial use"),
        method=method, micro_batch=8, gradient_accumulation=2, seq_length=256,
        gradient_checkpointing=False, optimizer="adamw",
        prediction=Prediction(parts, round(peak * 0.93 * GIB), round(peak * 1.08 * GIB)),
        fits=fits, seconds=840.0 * billions, dollars=None,
        why="the best of what fits for 1,000 rows",
        hyper=Hyper(2e-4, 16, 32, 0.0, 3, 0.03, 16),
        basis=Basis(1000, 120, 210, 256, 22 * GIB, True),
    )  # fmt: skip
