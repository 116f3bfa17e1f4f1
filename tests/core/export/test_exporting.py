"""Exports appear whole or not at all, and work without TuneDeck."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from core.errors import UserError
from core.export import exporting
from core.export.exporting import export
from core.runs.directory import RunDirectory


@pytest.fixture
def merged_run(tmp_path, babbler):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.recipe.write_text("model: x\ndata: y\n")
    shutil.copytree(babbler, run.merged)
    return run


def test_a_copy_of_the_merged_model(merged_run, tmp_path):
    place = export(merged_run, "merged", tmp_path / "out" / "model")
    assert sorted(os.listdir(place)) == sorted(os.listdir(merged_run.merged))
    weights = place / "model.safetensors"
    assert weights.samefile(merged_run.merged / "model.safetensors"), "linked, not copied"
    assert not (place / "config.json").samefile(merged_run.merged / "config.json")
    shutil.rmtree(merged_run.path)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoModelForCausalLM.from_pretrained(place)
    assert AutoTokenizer.from_pretrained(place).chat_template


def test_in_the_run_it_can_be_renewed(merged_run):
    place = export(merged_run)
    assert place == merged_run.export / "merged"
    (place / "config.json").write_text("spoilt")
    export(merged_run)
    assert (place / "config.json").read_text() == (merged_run.merged / "config.json").read_text()
    assert sorted(os.listdir(merged_run.export)) == ["merged"]


def test_what_is_there_is_not_replaced(merged_run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="exists already"):
        export(merged_run, "merged", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_a_disk_that_fills_up_leaves_nothing(merged_run, tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(28, "No space left on device", target)

    monkeypatch.setattr(exporting, "_link_or_copy", fail)
    with pytest.raises(UserError, match="o space left"):
        export(merged_run, "merged", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_the_script_runs_on_its_own(merged_run, tmp_path):
    place = export(merged_run, "script", tmp_path / "talk.py")
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(place), "hello"],
        cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert len(done.stdout) > 20
    assert os.access(place, os.X_OK)


def test_a_run_that_was_not_merged_is_merged_first(make_run, tmp_path):
    run = make_run(merge=False)
    place = export(run, "merged", tmp_path / "out")
    assert (place / "model.safetensors").is_file()
    assert (run.merged / "config.json").is_file()


def test_a_run_without_a_model_and_an_unknown_kind_are_sentences(tmp_path):
    with pytest.raises(UserError, match="no trained model yet"):
        export(RunDirectory(tmp_path / "none"))
    with pytest.raises(UserError, match="no export “cobol”"):
        export(RunDirectory(tmp_path / "none"), "cobol")
    assert not (tmp_path / "none").exists()
