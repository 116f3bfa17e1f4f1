"""PiSSA where several processes train: all begin with one decomposition, and that one is kept."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from core.recipe import parse_recipe
from core.training import pissa
from core.training.adapters import with_adapter
from core.training.loading import load_base
from core.training.ranks import join, wait_for_all

SECONDS = 300.0


def begin(base: str, folder: str, rank: int, local_rank: int, port: int, seed: int) -> None:
    """One process of two: it draws at random on its own, and leaves all its weights in a file."""
    os.environ |= {"RANK": f"{rank}", "LOCAL_RANK": f"{local_rank}", "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    join()
    tree = {"model": {"id": base, "precision": "fp32"}, "data": "x"}
    recipe = parse_recipe({**tree, "method": {"name": "pissa", "rank": 4}}, "test")
    model = with_adapter(load_base(Path(base), recipe), recipe.method)
    torch.manual_seed(seed + rank)
    pissa.begin(model, Path(folder))
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    save_file(weights, f"{folder}/weights-{rank}.safetensors")
    wait_for_all()
    os._exit(0)


def begin_together(
    base: Path, folders: Sequence[Path], seed: int = 0
) -> list[dict[str, torch.Tensor]]:
    """The weights of both. Each has its folder; where it is the same, they are on one machine."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.training.session"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one_machine = folders[0] == folders[1]
    children = [
        context.Process(
            target=begin,
            args=(str(base), str(folder), rank, rank if one_machine else 0, port, seed),
        )
        for rank, folder in enumerate(folders)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(SECONDS)
        assert child.exitcode == 0
    files = [folder / f"weights-{rank}.safetensors" for rank, folder in enumerate(folders)]
    return [load_file(file) for file in files]


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """As far apart as two ways of adding up, and no further."""
    return all(bool((ours[name] - theirs[name]).abs().max() < 1e-5) for name in ours)


def test_one_decomposes_for_all(tiny_model: Path, tmp_path: Path) -> None:
    first, second = begin_together(tiny_model, [tmp_path, tmp_path])
    kept = load_file(tmp_path / pissa.FILE)
    assert len(kept) == 2 * 14
    for name, value in kept.items():
        assert value.abs().sum() > 0
        assert torch.equal(first[name], value)
        assert torch.equal(second[name], value)
    assert same(first, second)
    whole = load_file(tiny_model / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    layer = "base_model.model.model.layers.0.mlp.up_proj"
    for weights in (first, second):
        taken = whole - weights[f"{layer}.base_layer.weight"]
        factors = [weights[f"{layer}.lora_{side}.default.weight"] for side in "BA"]
        assert torch.allclose(taken, 32 / 4 * factors[0] @ factors[1], atol=1e-5)  # alpha / rank


def test_a_machine_that_has_begun_speaks_for_one_that_has_not(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Each machine keeps it; of two, the second has it from before."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    before = begin_together(tiny_model, folders)
    kept = [(folder / pissa.FILE).read_bytes() for folder in folders]
    assert kept[0] == kept[1]
    (folders[0] / pissa.FILE).unlink()
    after = begin_together(tiny_model, folders, seed=7)
    assert (folders[0] / pissa.FILE).read_bytes() == kept[1]
    assert all(map(same, before, after))
