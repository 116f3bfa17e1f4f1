"""A recipe for several machines: the commands for them, and what is said without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from core.runs.directory import find_run
from core.runs.nodes import Node, read_node
from tests.core.runs.conftest import home, stages
from tui.cli import cli, main

__all__ = ["home", "stages"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "one"}\n')
    path = tmp_path / "recipe.yaml"
    tree = {"name": "far", "model": "m", "data": str(rows), "hardware": {"nodes": 3}}
    path.write_text(yaml.safe_dump(tree))
    return path


def said(words: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code


def test_the_commands_are_ones_that_train_takes(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(["nodes", str(recipe), "--main-address", "head:4000"], 0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for rank, line in enumerate(lines):
        words = line.split()
        context = click.Context(cli)
        command = cli.get_command(context, words[1])
        assert command is not None
        options = command.make_context("train", words[2:], parent=context).params
        assert (options["node_rank"], options["main_address"]) == (rank, "head:4000")


def test_without_them_no_run_is_made(
    stages: Callable[..., None],
    tmp_path: Path,
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said(["train", str(recipe), "--detach"], 1)
    assert "tunedeck nodes" in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


def test_each_machine_has_a_run_of_its_own(
    stages: Callable[..., None],
    recipe: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also on a disk that they share."""
    stages("passes")
    names = []
    for rank in ("0", "2"):
        node = ["--node-rank", rank, "--main-address", "head"]
        said(["train", str(recipe), *node, "--json"], 0)
        names.append(json.loads(capsys.readouterr().out)["id"])
        assert read_node(find_run(names[-1])) == Node(int(rank), "head:29500")
    assert names[0].startswith("far-2")
    assert names[1].startswith("far-node2-")
