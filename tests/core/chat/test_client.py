"""The chat worker for real: a tiny model in a child process."""

from __future__ import annotations

import os
import signal
import time

import pytest

from core.chat.client import ChatClient, ModelSource, chat_with_run
from core.chat.events import Notice, Piece, Turn
from core.errors import UserError
from core.recipe import Recipe
from core.runs.directory import RunDirectory

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(babbler, babbler_adapter):
    chat = ChatClient(ModelSource(str(babbler), adapter=str(babbler_adapter)), compare_with=babbler)
    yield chat
    chat.close()


def answers(events):
    return {event.who: event for event in events if isinstance(event, Turn)}


def text_of(events, who):
    return "".join(e.text for e in events if isinstance(e, Piece) and e.who == who)


def test_loading_is_told_and_ends_with_ready(client):
    stages = [loading.stage for loading in client.load()]
    assert stages[0] == "importing"
    assert stages[-1] == "ready"
    assert client.ready.device
    assert client.ready.context == 1024


def test_both_models_answer_and_the_pieces_make_up_the_text(client):
    events = list(client.generate(HELLO, max_new_tokens=24, temperature=0))
    turns = answers(events)
    assert set(turns) == {"tuned", "base"}
    for who, turn in turns.items():
        assert text_of(events, who) == turn.text
        assert turn.ended in ("stop", "length")
        assert turn.tokens <= 24
        assert "<|im_end|>" not in turn.text
    assert turns["tuned"].text != turns["base"].text


def test_the_seed_decides_what_is_sampled(client):
    def sample(seed):
        events = client.generate(HELLO, max_new_tokens=16, temperature=1.0, top_p=1.0, seed=seed)
        return answers(events)["tuned"].text

    assert sample(5) == sample(5)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_stop_ends_the_answer_and_the_model_stays_loaded(client):
    asked = client.generate(HELLO, max_new_tokens=10_000, temperature=0)
    next(asked)
    started = time.monotonic()
    client.stop()
    events = list(asked)
    assert time.monotonic() - started < 20
    assert answers(events)["base"].ended == "stopped"
    assert answers(events)["base"].tokens < 900
    client.stop()  # harmless when nothing is being written
    assert answers(client.generate(HELLO, max_new_tokens=2))["tuned"].tokens <= 2


def test_an_abandoned_answer_does_not_leak_into_the_next(client):
    abandoned = client.generate(HELLO, max_new_tokens=200, temperature=3.0, top_p=1.0)
    next(abandoned)
    abandoned.close()
    events = list(client.generate(HELLO, max_new_tokens=4, temperature=0))
    assert text_of(events, "tuned") == answers(events)["tuned"].text


def test_the_system_prompt_and_an_own_history_of_the_base_count(client):
    plain = answers(client.generate(HELLO, max_new_tokens=12, temperature=0))
    other = answers(client.generate(HELLO, max_new_tokens=12, temperature=0, system="Be rude."))
    assert other["tuned"].prompt_tokens > plain["tuned"].prompt_tokens
    longer = [*HELLO, {"role": "assistant", "content": "Hi"}, *HELLO]
    apart = answers(client.generate(HELLO, max_new_tokens=2, base_messages=longer))
    assert apart["base"].prompt_tokens > apart["tuned"].prompt_tokens


def test_a_chat_that_outgrows_the_context_says_what_it_left_out(client):
    old = [{"role": "user", "content": "x" * 500}, {"role": "assistant", "content": "y" * 20}]
    events = list(client.generate([*old, *old, *HELLO], max_new_tokens=4))
    notices = [event for event in events if isinstance(event, Notice)]
    assert [notice.code for notice in notices] == ["context-full"]
    assert len(answers(events)) == 2


def test_a_message_too_long_for_the_model_is_a_user_error_and_the_chat_goes_on(client):
    with pytest.raises(UserError, match="the model's context holds 1,024"):
        list(client.generate([{"role": "user", "content": "x" * 1999}]))
    assert client.alive
    assert answers(client.generate(HELLO, max_new_tokens=2))


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    chat = ChatClient(tmp_path)
    with pytest.raises(UserError, match=r"holds no|config\.json"):
        list(chat.load())
    assert not chat.alive
    assert chat._child.wait(10) == 1
    chat.close()


def test_damaged_weights_are_one_sentence(babbler, tmp_path):
    for file in babbler.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not a model")
    chat = ChatClient(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded"):
        list(chat.load())
    chat.close()


def test_a_killed_worker_is_reported_and_close_is_quick(babbler):
    chat = ChatClient(babbler)
    loading = chat.load()
    next(loading)
    os.kill(chat._child.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="signal 9"):
        list(loading)
    started = time.monotonic()
    chat.close()
    assert time.monotonic() - started < 10


def test_a_run_without_a_trained_model_says_so(tmp_path):
    run = RunDirectory(tmp_path)
    recipe = Recipe.model_validate({"model": "org/base", "data": "rows.jsonl"})
    run.recipe.write_text(recipe.to_yaml())
    with pytest.raises(UserError, match="no trained model yet"):
        chat_with_run(run)
