"""`tunedeck plan` as other programs and people call it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.planning.presets import load_preset, save_preset
from core.recipe import load_recipe
from tests.tiny import write_rows
from tests.tui.conftest import machine_with
from tui.cli import main

Plan = Any


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """1,000 rows of chat."""
    return write_rows(tmp_path / "chat.jsonl", 1000)


@pytest.fixture
def plan(
    monkeypatch: pytest.MonkeyPatch,
    tunedeck_home: Path,
    tiny_model: Path,
    rows: Path,
    capsys: pytest.CaptureFixture[str],
) -> Plan:
    """Calls the command on the rows: (exit code, stdout, stderr)."""
    monkeypatch.setattr("core.hardware.readings.read_machine", lambda: machine_with(0))
    monkeypatch.setattr("core.models.locate.locate_tokenizer", lambda *arguments: tiny_model)

    def call(*options: str, source: bool = True) -> tuple[int, str, str]:
        words = ["plan", *([str(rows)] if source else []), *options]
        with pytest.raises(SystemExit) as ended:
            main(words)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def tree_of(answer: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = answer
    assert code == 0, err
    tree: dict[str, Any] = json.loads(out)
    return tree


def fits(tree: dict[str, Any], model: str, method: str) -> bool:
    (row,) = [c for c in tree["candidates"] if (c["model"], c["method"]) == (model, method)]
    return bool(row["fits"])


def test_24_gib_hold_qlora_of_7_and_8b_and_not_full_7b(plan: Plan) -> None:
    tree = tree_of(plan("--vram", "24GiB", "--json"))
    assert fits(tree, "meta-llama/Llama-3.1-8B-Instruct", "qlora")
    assert fits(tree, "Qwen/Qwen3-8B", "qlora")
    assert fits(tree, "mistralai/Mistral-7B-Instruct-v0.3", "qlora")
    assert not fits(tree, "mistralai/Mistral-7B-Instruct-v0.3", "full")
    assert not fits(tree, "Qwen/Qwen2.5-7B-Instruct", "full")
    star = tree["candidates"][tree["recommended"]]
    assert star["fits"]
    assert star["why"]


def test_free_memory_alone_gives_no_time_and_says_how_to_get_one(plan: Plan) -> None:
    code, out, _ = plan("--vram", "20GiB")
    assert code == 0
    assert 'No GPU was named (--gpu "RTX 4090" does, beside --vram), so no times are given.' in out
    both = tree_of(plan("--vram", "20GiB", "--gpu", "RTX 4090", "--json"))
    assert both["free_bytes"] == 20 * 2**30
    star = both["candidates"][both["recommended"]]
    assert star["seconds"] > 60
    assert star["dollars"] > 0
    assert "named" not in both["note"]
    code, _, err = plan("--vram", "80GiB", "--gpu", "RTX 4090")
    assert code == 1
    assert "RTX 4090 has 24.0 GiB, less than the 80.0 GiB asked for." in err


def test_a_bare_number_of_memory_is_in_gib(plan: Plan) -> None:
    assert tree_of(plan("--vram", "24", "--json"))["free_bytes"] == 24 * 2**30
    assert tree_of(plan("--vram", "25769803776", "--json"))["free_bytes"] == 24 * 2**30
    code, _, err = plan("--vram", "1.2.3GiB")
    assert code == 2
    assert "“1.2.3GiB” is not an amount of memory; write it like 24GiB." in err


def test_a_rented_gpu_has_ranges_and_says_what_they_rest_on(plan: Plan) -> None:
    code, out, _ = plan("--gpu", "4090")
    assert code == 0
    assert out.startswith("RTX 4090, 23.3 GiB free")
    star = next(line for line in out.splitlines() if line.startswith("★ Qwen"))
    assert "min" in star
    assert "$" in star
    assert "–" in star
    assert "$0.55 an hour; the speed is assumed: nothing was measured on this device; with " in out
    assert "to download, at 200 MB/s" in out


def test_packing_and_the_sources_are_in_the_text_the_json_and_the_recipe(
    plan: Plan, tmp_path: Path
) -> None:
    target = tmp_path / "recipe.yaml"
    options = ("--gpu", "RTX 4090", "--model", "Qwen/Qwen3-8B", "--method", "qlora")
    code, out, _ = plan(*options, "--write", str(target))
    assert code == 0
    assert " packed " in out
    assert "learning rate 0.0002 (QLoRA, arXiv 2305.14314" in out
    text = target.read_text(encoding="utf-8")
    assert "#   alpha: Biderman et al., arXiv 2405.09673: alpha = 2 r" in text
    tree = tree_of(plan(*options, "--json"))
    star = tree["candidates"][tree["recommended"]]
    assert load_recipe(target).training.packing is star["packing"]
    assert star["sources"]["learning_rate"].startswith("QLoRA, arXiv 2305.14314")


def test_several_gpus_hold_copies_or_parts(plan: Plan) -> None:
    options = ("--gpu", "RTX 4090", "--gpus", "2", "--model", "Qwen/Qwen3-8B", "--method", "lora")
    copies = tree_of(plan(*options, "--json"))["candidates"][0]
    parts = tree_of(plan(*options, "--sharding", "fsdp", "--json"))["candidates"][0]
    assert (copies["sharding"], parts["sharding"]) == ("auto", "fsdp")
    assert parts["peak_bytes"] / parts["micro_batch"] < copies["peak_bytes"] / copies["micro_batch"]
    code, out, _ = plan(*options, "--sharding", "fsdp")
    assert code == 0
    assert "2 GPUs together, each with a part of the model (fsdp)" in out
    code, _, err = plan("--gpu", "RTX 4090", "--sharding", "fsdp")
    assert code == 1
    assert "--sharding fsdp splits the model over several GPUs. Give --gpus." in err
    code, _, err = plan(*options[:4], "--method", "qlora", "--sharding", "zero3")
    assert code == 1
    assert "ZeRO-3 cannot split a base in 4 bits" in err


def test_plan_and_estimate_share_their_options() -> None:
    from tui.commands.plan import plan as plan_command
    from tui.commands.planning import estimate
    from tui.commands.planning_options import SHARED

    for name in SHARED:
        one, other = (
            next(each for each in command.params if f"--{name}" in each.opts)
            for command in (plan_command, estimate)
        )
        assert type(one.type) is type(other.type)
        assert getattr(one.type, "choices", None) == getattr(other.type, "choices", None)


def test_6_gib_find_something_that_trains(plan: Plan) -> None:
    tree = tree_of(plan("--vram", "6GiB", "--json"))
    star = tree["candidates"][tree["recommended"]]
    assert star["fits"]
    assert star["high_bytes"] <= 6 * 2**30


def test_without_a_gpu_it_plans_for_the_cpu_and_warns_of_the_time(plan: Plan) -> None:
    code, out, _ = plan()
    assert code == 0
    assert "the run takes place on the CPU" in out
    assert re.search(r"Expect \d+(\.\d+)?( s| min| h)?[ –]", out)
    tree = tree_of(plan("--json"))
    assert tree["gpu"] is None
    assert all(c["method"] != "qlora" for c in tree["candidates"])


def test_elsewhere_is_in_the_text_and_in_the_json(plan: Plan) -> None:
    code, out, _ = plan("--gpu", "RTX 4090")
    assert code == 0
    assert "elsewhere (rents as of 20" in out
    assert "Together" in out
    assert "assumed: nothing was measured on this device" in out
    elsewhere = tree_of(plan("--gpu", "RTX 4090", "--json"))["elsewhere"]
    assert {one["gpu"] for one in elsewhere["gpus"]} >= {"L40S", "H100 SXM"}


def test_a_price_is_remembered_for_that_gpu(plan: Plan) -> None:
    def dollars(*options: str) -> float:
        tree = tree_of(plan("--gpu", "RTX 4090", "--json", *options))
        return float(tree["candidates"][0]["dollars"])

    typical = dollars()
    assert dollars("--price", "55") == pytest.approx(100 * typical, rel=1e-3)
    assert dollars() == pytest.approx(100 * typical, rel=1e-3)
    other = tree_of(plan("--gpu", "L4", "--json"))["candidates"][0]["dollars"]
    assert other < 10 * typical
    assert plan("--price", "-1")[0] == 2


def test_a_preset_is_planned_as_it_stands_and_written_with_the_data(
    plan: Plan, tmp_path: Path, rows: Path, tiny_rows: Path
) -> None:
    target = tmp_path / "mine.yaml"
    options = ("--preset", "chat-24gb", "--vram", "24GiB", "--eval", str(tiny_rows))
    tree = tree_of(plan(*options, "--write", str(target), "--json"))
    preset, written = load_preset("chat-24gb"), load_recipe(target)
    (row,) = tree["candidates"]
    assert (row["model"], row["method"]) == (preset.model.id, preset.method.name)
    assert row["micro_batch"] == preset.training.micro_batch
    assert row["fits"]
    assert written.method == preset.method
    assert written.training == preset.training
    assert written.data.train == [str(rows)]
    assert written.data.eval == [str(tiny_rows)]
    assert written.data.max_length == preset.data.max_length


def test_presets_of_ones_own_are_listed_first_and_planned(plan: Plan) -> None:
    save_preset("My lamps", load_preset("json-8gb"))
    code, out, _ = plan("--presets", source=False)
    assert code == 0
    assert out.splitlines()[0].startswith("my-lamps")
    assert len(out.splitlines()) > 49
    assert len(tree_of(plan("--preset", "my-lamps", "--vram", "8GiB", "--json"))["candidates"]) == 1
    code, _, err = plan("--preset", "nobody's")
    assert code == 1
    assert "There is no preset “nobody's”" in err
    assert "my-lamps" in err


def test_what_a_folder_holds_out_by_name_is_in_the_recipe(plan: Plan, tmp_path: Path) -> None:
    folder, recipe = tmp_path / "parts", tmp_path / "recipe.yaml"
    folder.mkdir()
    train, test = write_rows(folder / "train.jsonl", 300), write_rows(folder / "test.jsonl", 20)
    command = (str(folder), "--vram", "24GiB", "--write", str(recipe))
    code, _, err = plan(*command, source=False)
    assert code == 0
    assert "not trained on: test.jsonl." in err
    made = load_recipe(recipe)
    assert (made.data.train, made.data.eval) == ([str(folder)], [str(test)])
    assert plan(*command, "--eval", str(train), source=False)[0] == 0
    assert load_recipe(recipe).data.eval == [str(train)]


def test_held_out_rows_that_are_not_there_are_said_at_once(plan: Plan) -> None:
    code, _, err = plan("--vram", "24GiB", "--eval", "/nowhere/eval.jsonl")
    assert code == 1
    assert "/nowhere/eval.jsonl" in err


def test_a_preset_that_does_not_fit_says_what_would_help(plan: Plan) -> None:
    code, out, _ = plan("--preset", "chat-80gb", "--vram", "12GiB")
    assert code == 1
    assert "→" in out


def test_any_method_can_be_asked_for(plan: Plan) -> None:
    tree = tree_of(plan("--vram", "24GiB", "--method", "vera", "--method", "ia3", "--json"))
    assert {one["method"] for one in tree["candidates"]} == {"vera", "ia3"}
    assert plan("--method", "magic")[0] == 2


def test_one_model_is_planned_with_all_that_none_beats(plan: Plan) -> None:
    tree = tree_of(plan("--gpu", "RTX 4090", "--model", "Qwen/Qwen3-8B", "--json"))
    rows = tree["candidates"]
    assert {one["model"] for one in rows} == {"Qwen/Qwen3-8B"}
    assert [one["fits"] for one in rows if one["method"] == "full"] == [False]
    fitting = [one for one in rows if one["fits"]]
    assert {one["method"] for one in fitting} == {"lora", "qlora"}
    for one in fitting:
        assert not any(
            other["seconds"] < one["seconds"]
            and other["peak_bytes"] < one["peak_bytes"]
            and other["method"] == one["method"]
            for other in fitting
        )


def test_a_model_whose_tokenizer_is_out_of_reach_is_counted_with_another(
    plan: Plan, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locate(model: str) -> Path:
        if "SmolLM2" not in model:
            raise UserError(f"{model} is not here.")
        return tiny_model

    monkeypatch.setattr("core.models.locate.locate_tokenizer", locate)
    code, out, err = plan("--vram", "24GiB", "--model", "Qwen/Qwen3-8B")
    assert code == 0
    assert "★ Qwen/Qwen3-8B" in out
    assert "Qwen/Qwen3-8B is not here. Tokens are counted with" in err


def test_the_objective_follows_from_the_rows_and_is_written(plan: Plan, tmp_path: Path) -> None:
    target = tmp_path / "chat.yaml"
    options = ("--vram", "24GiB", "--write", str(target))
    code, out, _ = plan(*options, "--objective", "pretrain")
    assert code == 0
    assert "objective continued pre-training" in out
    assert load_recipe(target).objective.name == "pretrain"
    assert tree_of(plan(*options, "--json"))["objective"] == "sft"
    code, _, err = plan("--vram", "24GiB", "--objective", "dpo")
    assert code == 1
    assert "DPO needs rows with" in err


def test_pairs_are_planned_for_preference_tuning(plan: Plan, rows: Path) -> None:
    rows.write_text(
        "".join(
            json.dumps({"prompt": f"Say {n}", "chosen": f"It is {n}.", "rejected": "No."}) + "\n"
            for n in range(300)
        )
    )
    tree = tree_of(plan("--vram", "24GiB", "--json"))
    star = tree["candidates"][tree["recommended"]]
    assert (tree["objective"], star["objective"]) == ("dpo", "dpo")
    assert star["learning_rate"] <= 5e-6


def test_a_mapping_goes_into_the_recipe(plan: Plan, tmp_path: Path) -> None:
    strange = tmp_path / "strange.jsonl"
    rows = [{"kysymys": f"What is {n}?", "vastaus": f"It is {n}."} for n in range(300)]
    strange.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    target = tmp_path / "recipe.yaml"
    more = ("--map", "prompt=kysymys", "--map", "completion=vastaus", "--write", str(target))
    tree_of(plan(str(strange), "--vram", "24GiB", *more, "--json", source=False))
    assert load_recipe(target).data.mapping == {"prompt": "kysymys", "completion": "vastaus"}
