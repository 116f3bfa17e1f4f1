from __future__ import annotations

import pytest

from core.models.catalogue import load_catalogue
from core.models.filtering import matches


def ids(words: str) -> set[str]:
    return {card.id for card in load_catalogue() if matches(card, words)}


def test_no_words_mean_every_model() -> None:
    assert len(ids("")) == len(load_catalogue())


@pytest.mark.parametrize(
    ("words", "inside", "outside"),
    [
        ("qwen3", "Qwen/Qwen3-8B", "Qwen/Qwen2.5-7B-Instruct"),
        ("<8b", "Qwen/Qwen3-4B", "Qwen/Qwen3-14B"),
        ("<500m", "HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen3-0.6B"),
        (">30b", "meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen3-14B"),
        ("3-9b", "Qwen/Qwen3-8B", "Qwen/Qwen3-0.6B"),
        ("apache", "Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("mit", "microsoft/phi-4", "Qwen/Qwen3-8B"),
        ("German", "meta-llama/Llama-3.1-8B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3"),
        ("german", "Qwen/Qwen3-8B", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("open", "Qwen/Qwen3-8B", "meta-llama/Llama-3.1-8B-Instruct"),
        ("gated", "meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-8B"),
        ("instruct qwen <1b", "Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B"),
        ("base", "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct"),
    ],
)
def test_words_choose(words: str, inside: str, outside: str) -> None:
    found = ids(words)
    assert inside in found
    assert outside not in found


def test_bloom_names_its_languages_otherwise_and_german_is_not_among_them() -> None:
    assert not any("bloom" in one for one in ids("german"))


def test_words_that_fit_nothing_leave_nothing() -> None:
    assert ids("klingon") == set()
