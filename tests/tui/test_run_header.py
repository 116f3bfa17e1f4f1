"""The title names what is trained, and how much of it."""

from __future__ import annotations

import pytest

from core.recipe import MethodSection
from tui.widgets.run_header import method_words


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"name": "lora"}, "LoRA r=16"),
        ({"name": "lora", "bits": 4}, "LoRA r=16 4 bits"),
        ({"name": "qlora", "bits": 4, "rank": 8}, "QLoRA r=8"),
        ({"name": "full"}, "full fine-tuning"),
        ({"name": "ia3", "rank": 8}, "IA3"),
        ({"name": "last-layers", "layers": 3}, "last layers 3"),
        ({"name": "prefix"}, "prefix tuning 20 tokens"),
    ],
)
def test_the_method_and_the_knob_that_matters(method: dict[str, object], words: str) -> None:
    assert method_words(MethodSection.model_validate(method)) == words
