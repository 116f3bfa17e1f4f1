"""The whole journey on the embedded model: what the README promises, tried as a stranger would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Run, one_object


@pytest.mark.journey
def test_the_demo_teaches_the_embedded_model(demo_run: dict[str, object], tunedeck: Run) -> None:
    results = demo_run["results"]
    assert isinstance(results, dict)
    assert demo_run["state"] == "finished"
    assert results["base"]["rows"] >= 100
    assert results["tuned"]["rows"] >= 100
    assert results["base"]["exact_match"] <= 0.05
    assert results["tuned"]["exact_match"] >= 0.90
    assert results["tuned"]["loss"] < results["base"]["loss"]


@pytest.mark.journey
def test_the_figures_are_those_of_the_answers(demo_run: dict[str, object]) -> None:
    folder = Path(str(demo_run["directory"])) / "eval"
    results = demo_run["results"]
    assert isinstance(results, dict)
    for model in ("base", "tuned"):
        lines = (folder / f"{model}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        exact = sum(row["answer"].strip() == row["reference"].strip() for row in rows)
        assert exact / len(rows) == pytest.approx(results[model]["exact_match"])


@pytest.mark.journey
def test_the_merged_model_stands_alone(demo_run: dict[str, object]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(str(demo_run["directory"]))
    assert (folder / "adapter" / "adapter_config.json").is_file()
    tokenizer = AutoTokenizer.from_pretrained(folder / "merged")
    model = AutoModelForCausalLM.from_pretrained(folder / "merged")
    row = json.loads((folder / "eval" / "tuned.jsonl").read_text().splitlines()[0])
    messages = [{"role": "user", "content": row["prompt"]}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    out = model.generate(**ids, do_sample=False, max_new_tokens=60)
    answer = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == row["answer"]


@pytest.mark.journey
def test_the_tuned_model_answers_a_prompt(demo_run: dict[str, object], tunedeck: Run) -> None:
    folder = Path(str(demo_run["directory"]))
    row = json.loads((folder / "eval" / "tuned.jsonl").read_text().splitlines()[0])
    done = tunedeck("chat", str(folder), "--prompt", row["prompt"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == row["answer"].strip()


@pytest.mark.journey
def test_the_run_is_listed_and_exported(
    demo_run: dict[str, object], tunedeck: Run, tmp_path: Path
) -> None:
    folder = str(demo_run["directory"])
    done = tunedeck("export", folder, "--to", "merged", "--destination", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "config.json").is_file()
    attached = one_object(tunedeck("attach", folder, "--json"))
    assert attached["id"] == demo_run["id"]
