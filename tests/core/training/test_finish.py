"""The stage after training, whole: merge, prove, measure, go on where it was broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from core.children import command
from core.data.encoding import IGNORED
from core.data.prepared import load_prepared
from core.evaluation import evaluate as evaluation
from core.evaluation.client import evaluate_run
from core.evaluation.metrics import exact
from core.evaluation.results import read_answers, read_results
from core.runs.state import stored_state
from core.training import finish as finishing
from core.training.finish import finish
from core.training.reporter import Reporter


def events(run, kind):
    lines = run.events.read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def start(run):
    return subprocess.Popen(
        command("core.training.finish", str(run.path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def plain_loss(folder, run):
    """The mean over the trained tokens of all held-out rows, one row at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    total, count = 0.0, 0
    for row in load_prepared(run.data).eval:
        ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
        with torch.no_grad():
            mean = float(model(input_ids=ids, labels=labels).loss)
        trained = sum(label != IGNORED for label in row.labels)
        total, count = total + mean * trained, count + trained
    return total / count, count


def plain_answers(folder, run):
    """What the library generates, one prompt at a time, decoded by the library's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    answers = []
    for row in load_prepared(run.data).held_out[:10]:
        prompt = tokenizer.apply_chat_template(
            list(row.messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(
            **prompt, max_new_tokens=read_results(run).models["tuned"].max_new_tokens,
            do_sample=False, pad_token_id=0,
        )  # fmt: skip
        new = output[0, prompt["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(new, skip_special_tokens=True).strip())
    return answers


def test_the_whole_stage_and_its_numbers(make_run, babbler):
    run = make_run()
    finish(run, Reporter(run))
    results = read_results(run).models
    assert set(results) == {"tuned", "base"}
    for name, folder in (("tuned", run.merged), ("base", babbler)):
        loss, tokens = plain_loss(folder, run)
        assert results[name].loss == pytest.approx(loss, rel=0.01)
        assert (results[name].loss_tokens, results[name].loss_rows) == (tokens, 12)
        assert results[name].rows == 10
        assert results[name].json_valid == 0.0
        answers = read_answers(run, name)
        assert results[name].exact_match == sum(a.exact for a in answers) / 10
        assert all(a.exact == exact(a.answer, a.reference) for a in answers)
        assert answers[0].reference.startswith('{"lamp": 100')
    assert results["tuned"].loss != results["base"].loss
    # bf16 sums in another order may part two answers late, so not all have to be equal.
    generated = [answer.answer for answer in read_answers(run, "tuned")]
    same = sum(
        a[:8] == b[:8] for a, b in zip(generated, plain_answers(run.merged, run), strict=True)
    )
    assert same >= 8
    assert [event["stage"] for event in events(run, "state")] == ["merging", "evaluating"]
    assert [event["model"] for event in events(run, "result")] == ["tuned", "base"]
    assert events(run, "merge")[0]["changed"] == 14


def test_measuring_again_in_a_child_finds_the_same(make_run):
    run = make_run(evaluation={"rows": 4, "base": False})
    finish(run, Reporter(run))
    before, answers = read_results(run).models["tuned"], read_answers(run, "tuned")
    (run.eval / "results.json").unlink()
    told = []
    found = evaluate_run(run, on_event=told.append)
    assert found["models"]["tuned"]["loss"] == before.loss
    assert found["models"]["tuned"]["exact_match"] == before.exact_match
    assert read_answers(run, "tuned") == answers
    assert {event["kind"] for event in told} == {"progress", "result"}


def test_started_again_it_does_only_what_is_missing(make_run, monkeypatch):
    run = make_run(evaluation={"rows": 2})
    finish(run, Reporter(run))
    merged = (run.merged / "model.safetensors").stat().st_mtime_ns
    tree = json.loads((run.eval / "results.json").read_text())
    del tree["models"]["base"]
    (run.eval / "results.json").write_text(json.dumps(tree))
    measured = []
    genuine = evaluation._measure

    def note(run, recipe, subject, *rest):
        measured.append(subject.name)
        return genuine(run, recipe, subject, *rest)

    monkeypatch.setattr(evaluation, "_measure", note)
    finish(run, Reporter(run))
    assert measured == ["base"]
    assert set(read_results(run).models) == {"tuned", "base"}
    assert (run.merged / "model.safetensors").stat().st_mtime_ns == merged


def test_without_held_out_rows_it_says_so_and_still_merges(make_run):
    run = make_run()
    (run.data / "eval.jsonl").write_text("")
    (run.data / "heldout.jsonl").write_text("")
    finish(run, Reporter(run))
    assert (run.merged / "config.json").is_file()
    assert [event["code"] for event in events(run, "warning")] == ["no-held-out-rows"]
    assert read_results(run).models == {}


def test_without_a_merge_the_adapter_on_its_base_is_measured(make_run):
    run = make_run(merge=False, evaluation={"rows": 2, "base": False})
    finish(run, Reporter(run))
    assert not run.merged.exists()
    assert read_results(run).models["tuned"].loss is not None


def test_a_signal_ends_it_quickly_and_leaves_only_whole_things(make_run):
    run = make_run()
    stage = start(run)
    deadline = time.monotonic() + 60
    while not run.events.exists() or not events(run, "state"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.0)
    stage.send_signal(signal.SIGTERM)
    assert stage.wait(30) == 0
    assert stored_state(run).phase == "stopping"
    assert not list(run.path.glob(".*")), "something half-made was left"
    assert not events(run, "error")


def test_what_goes_wrong_is_an_error_event_with_a_remedy(make_run, capsys):
    run = make_run()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"torn")
    assert finishing.main([str(run.path)]) == 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler
        )
    assert "cannot be loaded" in events(run, "error")[0]["message"]
    assert not run.merged.exists()


def test_a_run_at_work_is_not_measured(make_run):
    import sys

    run = make_run()
    hold = "import sys, time; from pathlib import Path; from core.runs.lock import RunLock;"
    hold += "RunLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(run.lock)], stdout=subprocess.PIPE, env=dict(os.environ)
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        from core.errors import UserError

        with pytest.raises(UserError, match="still at work"):
            evaluate_run(run)
    finally:
        holder.kill()
        holder.wait()
