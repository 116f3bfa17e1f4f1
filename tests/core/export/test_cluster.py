"""Jobs for a cluster and a cloud: scripts that parse, with commands that our own CLI takes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from core.errors import UserError
from core.export.cluster import write_job
from core.recipe import load_recipe
from tui.cli import cli

Write = Callable[..., Path]


@pytest.fixture
def recipe(tmp_path: Path) -> Write:
    """A recipe whose data file has a name that a shell would stumble over."""

    def write(**hardware: Any) -> Path:
        rows = tmp_path / 'my "rows" $HOME.jsonl'
        rows.write_text('{"text": "one"}\n')
        tree = {
            "name": "Night shift",
            "model": "org/model",
            "data": {"train": [str(rows), "org/rows"]},
            "hardware": hardware,
        }
        path = tmp_path / "a recipe.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


def parsed(words: list[str]) -> dict[str, Any]:
    """The options that our command line understands these words as. Raises where it does not."""
    assert words[0] == "tunedeck"
    context = click.Context(cli)
    command = cli.get_command(context, words[1])
    assert command is not None
    return dict(command.make_context(words[1], words[2:], parent=context).params)


def run_shell(script: str, folder: Path, **environment: str) -> list[list[str]]:
    """Run a script with doubles for the programs that it calls; the words each `tunedeck` got."""
    programs = folder / "bin"
    programs.mkdir()
    doubles = {
        "tunedeck": 'printf "%s\\0" tunedeck "$@" >> "$CALLS"; printf "\\n" >> "$CALLS"\n'
        'echo "{\\"state\\": \\"$OUTCOME\\"}"',
        "srun": '"$@"',
        "scontrol": 'if [ "$1" = show ]; then printf "one\\ntwo\\n"\n'
        'else echo "$@" >> "$CALLS.s"; fi',
    }
    for name, body in doubles.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    calls = folder / "calls"
    done = subprocess.run(
        ["bash", "-c", script],
        env={
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "CALLS": str(calls),
            "OUTCOME": "finished",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = calls.read_text().split("\0\n")
    return [line.split("\0") for line in lines if line]


def test_a_slurm_script_for_one_machine(recipe: Write, tmp_path: Path) -> None:
    file = recipe(gpus=4)
    place = write_job(str(file), "slurm")
    assert place == tmp_path / "night-shift.slurm.sh"
    script = place.read_text()
    assert "#SBATCH --gpus-per-node=4\n" in script
    assert "#SBATCH --nodes=1\n" in script
    [words] = run_shell(script, tmp_path, SLURM_JOB_ID="7")
    options = parsed(words)
    assert options["recipe"] == file
    assert options["auto_resume"]
    assert options["as_json"]
    assert options["node_rank"] is None
    assert not (tmp_path / "calls.s").exists()


def test_a_slurm_job_that_was_stopped_goes_back_into_the_queue(
    recipe: Write, tmp_path: Path
) -> None:
    script = write_job(str(recipe(gpu="cpu")), "slurm").read_text()
    assert "gpus-per-node" not in script
    run_shell(script, tmp_path, SLURM_JOB_ID="7", OUTCOME="stopped")
    assert (tmp_path / "calls.s").read_text() == "requeue 7\n"


def test_a_slurm_script_for_several_machines(recipe: Write, tmp_path: Path) -> None:
    script = write_job(str(recipe(gpus=2, nodes=2)), "slurm").read_text()
    environment = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NODEID": "1"}
    [words] = run_shell(script, tmp_path, **environment)
    options = parsed(words)
    assert (options["node_rank"], options["main_address"]) == (1, "one:29500")


def test_a_skypilot_task(recipe: Write, tmp_path: Path) -> None:
    file = recipe(gpus=8, nodes=2)
    text = write_job(str(file), "skypilot", gpu="H100", volume="nights").read_text()
    task = yaml.safe_load(text)
    assert task["num_nodes"] == 2
    assert task["resources"]["accelerators"] == "H100:8"
    assert task["resources"]["use_spot"] is True
    assert task["volumes"] == {"/tunedeck": "nights"}
    assert task["envs"]["TUNEDECK_HOME"] == "/tunedeck"
    rows = load_recipe(file).data.train[0]
    assert set(task["file_mounts"].values()) == {str(file), rows}
    [words] = run_shell(
        task["run"], tmp_path, SKYPILOT_NODE_IPS="10.0.0.1\n10.0.0.2", SKYPILOT_NODE_RANK="1"
    )
    options = parsed(words)
    home = str(tmp_path / "home")
    there = {place.replace("~", home): here for place, here in task["file_mounts"].items()}
    assert there[str(options["recipe"])] == str(file)
    assert (options["node_rank"], options["main_address"]) == (1, "10.0.0.1:29500")
    changed = load_recipe(file).with_changes(list(options["changes"]))
    assert changed.data.train[1] == "org/rows"
    assert there[changed.data.train[0]] == rows


def test_held_out_rows_that_lie_in_what_moves_anyway_move_with_it(
    recipe: Write, tmp_path: Path
) -> None:
    folder, lists = tmp_path / "parts", tmp_path / "lists.json"
    folder.mkdir()
    for file in (folder / "train.jsonl", folder / "test.jsonl", lists):
        file.write_text("{}")
    file = recipe()
    tree = yaml.safe_load(file.read_text())
    sources = {
        "train": [str(folder), str(lists)],
        "eval": [f"{folder}/test.jsonl", f"{lists}/test"],
    }
    file.write_text(yaml.safe_dump({**tree, "data": sources}))
    task = yaml.safe_load(write_job(str(file), "skypilot", gpu="H100").read_text())
    assert set(task["file_mounts"].values()) == {str(file), str(folder), str(lists)}
    [words] = run_shell(task["run"], tmp_path)
    home = str(tmp_path / "home")
    there = {place.replace("~", home): here for place, here in task["file_mounts"].items()}
    changed = load_recipe(file).with_changes(list(parsed(words)["changes"])).data
    assert [there[source] for source in changed.train] == sources["train"]
    assert [there[str(Path(source).parent)] for source in changed.eval] == [str(folder), str(lists)]
    assert [Path(source).name for source in changed.eval] == ["test.jsonl", "test"]


def test_a_skypilot_task_without_a_volume_is_no_spot_machine(recipe: Write) -> None:
    text = write_job(str(recipe(gpu="cpu")), "skypilot").read_text()
    task = yaml.safe_load(text)
    assert task["resources"]["use_spot"] is False
    assert "accelerators" not in task["resources"]
    assert "volume" in text.splitlines()[1]


def test_what_no_scheduler_can_be_told(recipe: Write) -> None:
    with pytest.raises(UserError, match=r"gpus is all"):
        write_job(str(recipe(gpus="all")), "slurm")
    with pytest.raises(UserError, match="Which GPU"):
        write_job(str(recipe()), "skypilot")
    with pytest.raises(UserError, match="no run"):
        write_job("nothing", "slurm")
