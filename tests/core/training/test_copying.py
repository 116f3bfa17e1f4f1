"""Files of the first process on every machine: sent in pieces, and whole where they arrive."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as group

from core.training import copying
from core.training.copying import copy_to_all


class Wire:
    """What the first process broadcasts, for the second to receive afterwards."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self._sent: deque[Any] = deque()
        monkeypatch.setattr(group, "broadcast_object_list", self._objects)
        monkeypatch.setattr(group, "broadcast", self._tensor)

    def be(self, rank: int, local_rank: int = 0) -> None:
        self._patch.setenv("RANK", str(rank))
        self._patch.setenv("LOCAL_RANK", str(local_rank))
        self._patch.setenv("WORLD_SIZE", "2")
        self._first = rank == 0

    def _objects(self, objects: list[Any], source: int) -> None:
        if self._first:
            self._sent.append(list(objects))
        else:
            objects[:] = self._sent.popleft()

    def _tensor(self, tensor: torch.Tensor, source: int) -> None:
        if self._first:
            self._sent.append(tensor.clone())
        else:
            tensor.copy_(self._sent.popleft())

    @property
    def empty(self) -> bool:
        return not self._sent


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setattr(copying, "CHUNK", 10)
    return Wire(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "first"
    (made / "inner").mkdir(parents=True)
    (made / "long").write_bytes(bytes(range(25)))
    (made / "even").write_bytes(b"0" * 20)
    (made / "inner" / "short").write_bytes(b"x")
    return made


def test_every_file_arrives(wire: Wire, folder: Path, tmp_path: Path) -> None:
    wire.be(0)
    copy_to_all(folder)
    wire.be(1)
    there = tmp_path / "second"
    (there / "inner").mkdir(parents=True)
    (there / "long").write_bytes(b"from an earlier try, and longer than that")
    copy_to_all(there)
    assert wire.empty
    for name in ("long", "even", "inner/short"):
        assert (there / name).read_bytes() == (folder / name).read_bytes()


def test_one_that_keeps_no_run_only_listens(wire: Wire, folder: Path, tmp_path: Path) -> None:
    wire.be(0)
    copy_to_all(folder)
    wire.be(1, local_rank=1)
    copy_to_all(tmp_path / "second")
    assert wire.empty
    assert not (tmp_path / "second").exists()


def test_a_full_disk_is_told_when_all_is_sent(wire: Wire, folder: Path, tmp_path: Path) -> None:
    wire.be(0)
    copy_to_all(folder)
    wire.be(1)
    (tmp_path / "second").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="second"):
        copy_to_all(tmp_path / "second")
    assert wire.empty
