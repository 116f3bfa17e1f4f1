"""What is told of an event in words."""

from __future__ import annotations

from core.runs.sentences import sentence


def test_an_evaluation_of_preferences_tells_who_wins() -> None:
    event = {"kind": "eval", "step": 8, "loss": 0.61234, "margin": 0.25, "accuracy": 0.75}
    told = sentence(event)
    assert told == "held-out loss 0.6123 at step 8; chosen above rejected by 0.250, right on 75%"
    plain = {"kind": "eval", "step": 8, "loss": 0.61234, "perplexity": 1.84}
    assert sentence(plain) == "held-out loss 0.6123 at step 8"


def test_the_choices_in_one_line() -> None:
    choices = [
        {"name": "precision", "value": "bf16", "why": "fast"},
        {"name": "micro_batch", "value": "8 × 1", "why": "fits"},
    ]
    told = sentence({"kind": "choices", "choices": choices})
    assert told == "chosen for this machine: precision bf16, micro batch 8 × 1"
