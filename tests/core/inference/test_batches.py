"""Batched greedy answers and the loss against plain computations, a row at a time."""

from __future__ import annotations

import pytest

from core.data.encoding import IGNORED
from core.data.training_rows import TokenRow
from core.evaluation.loss import held_out_loss
from core.inference import batches
from core.inference.batches import complete, plan_batches
from core.inference.decoding import Answer, Detokeniser, Sampling


@pytest.fixture(scope="module")
def model(babbler):
    """In 32 bits, where the order of sums cannot turn one likeliest token into another."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(babbler, dtype=torch.float32).eval()


def prompts():
    import random

    source = random.Random(3)
    return [[source.randrange(256) for _ in range(n)] for n in (3, 40, 17, 8, 29, 5, 11, 23)]


def test_a_batch_answers_as_the_library_does_row_by_row(model, monkeypatch):
    import torch

    monkeypatch.setattr(batches, "BATCH_ROWS", 5)
    stops = [7, 60, 99, 120, 201, 255, 30, 31, 32, 33, 34, 35]  # rows end at different lengths
    found = {
        one.index: one for one in complete(model, prompts(), stop_ids=stops, max_new_tokens=24)
    }
    ends = set()
    for index, prompt in enumerate(prompts()):
        with torch.inference_mode():
            ids = torch.tensor([prompt])
            plain = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
                eos_token_id=stops, pad_token_id=0,
            )[0, len(prompt) :].tolist()  # fmt: skip
        ended = "stop" if plain[-1] in stops else "length"
        assert found[index].tokens == [token for token in plain if token not in stops]
        assert found[index].ended == ended
        ends.add((ended, len(plain)))
    assert len(ends) > 3


def test_one_answer_at_a_time_agrees_with_the_batch(model):
    batch = {
        one.index: one.tokens for one in complete(model, prompts(), stop_ids=[], max_new_tokens=9)
    }
    for index, prompt in enumerate(prompts()):
        single = Answer(model, prompt, Sampling(temperature=0, max_new_tokens=9), [])
        while single.ended is None:
            single.step()
        assert single.tokens == batch[index]


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(model, monkeypatch):
    import torch

    genuine = batches._Batch._next_tokens

    def scarce(self):
        if len(self._rows) > 3:
            raise torch.OutOfMemoryError("too much")
        return genuine(self)

    expected = {
        one.index: one.tokens for one in complete(model, prompts(), stop_ids=[9], max_new_tokens=6)
    }
    monkeypatch.setattr(batches._Batch, "_next_tokens", scarce)
    found = list(complete(model, prompts(), stop_ids=[9], max_new_tokens=6))
    assert {one.index: one.tokens for one in found} == expected
    assert len(found) == len(expected)


def test_batches_are_of_similar_length_and_within_the_budget():
    lengths = [5, 900, 30, 7, 800, 31]
    planned = plan_batches(lengths, 100)
    assert [lengths[row] for batch in planned for row in batch] == [900, 800, 31, 30, 7, 5]
    huge = plan_batches([batches.BATCH_TOKENS * 2, 3], 10)
    assert huge == [[0], [1]]
    assert plan_batches([], 10) == []


def test_the_loss_is_the_mean_over_trained_tokens_of_all_rows(model):
    import torch

    rows = []
    for number, ids in enumerate(prompts()):
        labels = [IGNORED if i < len(ids) // 2 or i % 5 == 4 else t for i, t in enumerate(ids)]
        rows.append(TokenRow(number, ids, labels))
        if number == 3:
            rows.append(TokenRow(99, [1, 2, 3], [IGNORED] * 3))
    total = count = 0.0
    for row in rows:
        with torch.no_grad():
            chances = model(torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        for place, label in enumerate(row.labels):
            if place and label != IGNORED:
                total -= float(chances[place - 1, label])
                count += 1
    loss = held_out_loss(model, rows)
    assert loss.tokens == count
    assert loss.rows == len(rows)
    assert loss.mean == pytest.approx(total / count, rel=1e-5)


def test_rows_without_trained_tokens_have_no_loss(model):
    assert held_out_loss(model, [TokenRow(1, [1, 2], [IGNORED] * 2)]) is None
    assert held_out_loss(model, []) is None


def test_text_comes_out_whole_however_characters_are_split(babbler):
    from core.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(babbler)
    text = "naïve 😀 漢字 end"
    stream = Detokeniser(lambda ids: tokenizer.decode(ids, skip_special=True))
    pieces = [stream.add(token) for token in tokenizer.encode_text(text)]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) + stream.finish() == text


def test_half_a_character_at_the_end_is_shown_as_such(babbler):
    from core.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(babbler)
    stream = Detokeniser(tokenizer.decode)
    given = "".join(stream.add(token) for token in tokenizer.encode_text("ab😀")[:-1])
    assert given == "ab"
    assert stream.finish() == "\ufffd"
