from __future__ import annotations

from pathlib import Path

import pytest

from core.units import GIB
from tests.gpu import memory_grid
from tests.gpu.memory_grid import (
    MEASURED,
    Point,
    grid,
    key_of,
    measure,
    predicted,
    rows_of,
    summary,
)


def test_the_grid_is_wide_enough() -> None:
    points = grid()
    assert len(points) == len(set(points)) >= 40
    assert {point.method for point in points} == {"lora", "qlora", "dora", "full"}
    assert {point.optimizer for point in points} == {"adamw", "adamw-8bit"}
    assert {point.checkpointing for point in points} == {True, False}
    assert any("70B" in point.model for point in points)
    for point in points:
        assert predicted(point)["predicted_nvml"] > 0


@pytest.mark.parametrize("method", ["lora", "qlora", "dora", "full", "lora-8bit"])
@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B", "microsoft/Phi-3.5-mini-instruct"])
def test_a_point_runs_its_steps_without_a_gpu(model: str, method: str) -> None:
    point = Point(model, method, 512, checkpointing=method != "full")  # type: ignore[arg-type]
    assert measure(point, dry=True) == dict.fromkeys(MEASURED)


def test_a_run_goes_on_where_it_ended_and_survives_a_child_that_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each point is run once, whatever came of it."""
    out, asked = tmp_path / "grid.csv", []

    def child(point: Point, *options: str) -> dict[str, object]:
        asked.append(point)
        if point.method == "lora":
            return {"problem": "CUDA out of memory"}
        return {"allocated": 9 * GIB, "reserved": 10 * GIB, "nvml": 11 * GIB, "problem": ""}

    monkeypatch.setattr(memory_grid, "in_child", child)
    memory_grid.run(grid()[:2], out)
    memory_grid.run(grid()[:4], out)
    assert asked == grid()[:4]
    assert [key_of(row) for row in rows_of(out)] == [point.key for point in grid()[:4]]
    assert rows_of(out)[0]["problem"] == "CUDA out of memory"


def test_the_summary_finds_a_false_fit() -> None:
    point = Point("Qwen/Qwen3-4B", "lora", 512, checkpointing=True, bits=None)
    row = {
        name: str(value) for name, value in zip(Point.__dataclass_fields__, point.key, strict=True)
    }
    known = {"predicted_allocated": 9, "predicted_reserved": 10, "predicted_nvml": 11}
    row |= {name: str(value * GIB) for name, value in known.items()}
    fine = {**row, "predicted_high": str(12 * GIB), "allocated": str(10 * GIB),
            "reserved": str(10 * GIB), "nvml": str(11 * GIB)}  # fmt: skip
    assert summary([fine])[1].startswith("allocated: off by 10.00%")
    assert summary([fine])[-1].startswith("no false")
    assert "false “fits” on 12 GiB" in summary([{**fine, "nvml": str(13 * GIB)}])[-1]
    assert summary([{**row, "nvml": ""}]) == ["0 of 1 configurations measured"]
