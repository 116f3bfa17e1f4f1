from __future__ import annotations

import pytest

from tests.gpu.memory_grid import MEASURED, Point, grid, measure, predicted


def test_the_grid_is_wide_enough() -> None:
    points = grid()
    assert len(points) >= 40
    assert {point.method for point in points} == {"lora", "qlora", "full"}
    assert any("70B" in point.model for point in points)
    for point in points:
        assert predicted(point)["predicted_nvml"] > 0


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
@pytest.mark.parametrize("model", ["Qwen/Qwen3-4B", "microsoft/Phi-3.5-mini-instruct"])
def test_a_point_runs_its_steps_without_a_gpu(model: str, method: str) -> None:
    point = Point(model, method, 512, checkpointing=method != "full")  # type: ignore[arg-type]
    assert measure(point, dry=True) == dict.fromkeys(MEASURED)
