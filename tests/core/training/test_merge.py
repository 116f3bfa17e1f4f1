"""Merging for real: 16-bit, 4-bit, and everything that must refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core.errors import UserError
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.training import merge as merging
from core.training.merge import merge
from tests.core.babbler import write_adapter, write_model

ROWS = [list(range(10, 60)), list(range(100, 180))]


def recipe_for(model: Path, method: str = "lora") -> Recipe:
    return Recipe.model_validate(
        {"model": str(model), "data": "rows.jsonl", "method": {"name": method}}
    )


@pytest.fixture
def run(tmp_path, babbler_adapter):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    shutil.copytree(babbler_adapter, run.adapter)
    return run


def nothing_half_written(run):
    return not run.merged.exists() and not list(run.path.glob(".merged*"))


def plain_logits(folder, row=ROWS[0]):
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        return model(torch.tensor([row])).logits[0].float()


def test_a_merged_model_loads_anywhere_and_answers_as_the_adapter(run, babbler):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    proof = merge(run, recipe_for(babbler), babbler, ROWS)
    assert proof.changed == proof.adapted == 14
    assert proof.difference is not None
    assert proof.difference <= proof.tolerance
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(babbler), run.adapter)
    with torch.no_grad():
        wanted = adapted(torch.tensor([ROWS[0]])).logits[0].float()
    distance_to_adapter = (plain_logits(run.merged) - wanted).norm()
    distance_to_base = (plain_logits(run.merged) - plain_logits(babbler)).norm()
    assert distance_to_adapter < 0.2 * distance_to_base
    tokenizer = AutoTokenizer.from_pretrained(run.merged)
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert rendered == "<|im_start|>user\nhi<|im_end|>\n"
    assert not list(run.path.glob(".merged*"))


def test_four_bit_weights_are_dequantised_before_the_merge(tmp_path, run, babbler):
    import torch

    proof = merge(run, recipe_for(babbler, "qlora"), babbler, ROWS)
    assert proof.changed == 14
    assert proof.difference <= proof.tolerance
    config = (run.merged / "config.json").read_text()
    assert "quantization_config" not in config
    in_sixteen_bits = RunDirectory(tmp_path / "other")
    in_sixteen_bits.path.mkdir()
    shutil.copytree(run.adapter, in_sixteen_bits.adapter)
    merge(in_sixteen_bits, recipe_for(babbler), babbler, ROWS)
    # Rounding to 4 bits is part of what was trained on, so it must be part of what is shipped.
    assert not torch.equal(plain_logits(run.merged), plain_logits(in_sixteen_bits.merged))


def test_an_adapter_that_learned_nothing_is_refused(run, babbler):
    write_adapter(babbler, run.adapter, scale=0.0)
    with pytest.raises(UserError, match="changed none of 14 layers"):
        merge(run, recipe_for(babbler), babbler, ROWS)
    assert nothing_half_written(run)


def test_a_merge_that_answers_otherwise_is_refused(run, babbler, monkeypatch):
    from peft.tuners.lora import LoraLayer, LoraModel

    genuine = LoraModel.merge_and_unload

    def with_the_wrong_scale(self, **options):
        for module in self.modules():
            if isinstance(module, LoraLayer):
                module.scaling["default"] *= 8
        return genuine(self, **options)

    monkeypatch.setattr(LoraModel, "merge_and_unload", with_the_wrong_scale, raising=False)
    with pytest.raises(UserError, match="does not answer as the adapter does"):
        merge(run, recipe_for(babbler), babbler, ROWS)
    assert nothing_half_written(run)


def test_a_full_disk_is_seen_before_anything_is_written(run, babbler, monkeypatch):
    usage = shutil.disk_usage(run.path)._replace(free=1000)
    monkeypatch.setattr(merging.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0\.98 KiB is free"):
        merge(run, recipe_for(babbler), babbler, ROWS)
    assert nothing_half_written(run)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("I/O error: No space left (os error 28)"),
    ],
)
def test_a_disk_that_fills_up_while_saving_leaves_nothing(run, babbler, monkeypatch, error):
    def fail(self, folder, **options):
        Path(folder).mkdir()
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", fail)
    with pytest.raises(UserError, match="no space left") as raised:
        merge(run, recipe_for(babbler), babbler, ROWS)
    assert "disk" in raised.value.remedy
    assert nothing_half_written(run)


def test_sampling_settings_without_sampling_do_not_stop_the_save(tmp_path, run):
    base = write_model(tmp_path / "base", temperature=0.6, top_p=0.9, do_sample=False)
    write_adapter(base, run.adapter)
    merge(run, recipe_for(base), base, ROWS)
    import json

    settings = json.loads((run.merged / "generation_config.json").read_text())
    assert settings["temperature"] == 0.6
    assert settings["do_sample"] is True


def test_leftovers_of_a_killed_merge_are_removed(run, babbler):
    (run.path / ".merged.123.tmp").mkdir()
    (run.path / ".merged.123.tmp" / "model.safetensors").write_bytes(b"half")
    merge(run, recipe_for(babbler), babbler, ROWS)
    assert not list(run.path.glob(".merged*"))


def test_a_torn_adapter_is_one_sentence(run, babbler):
    weights = run.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match=r"adapter in .* cannot be loaded"):
        merge(run, recipe_for(babbler), babbler, ROWS)
    assert nothing_half_written(run)
