"""What the first process has written, brought to the other machines of a run.

Where the processes hold parts of a model, the first of them writes the whole. Every machine keeps
it all the same, so that each can be resumed on its own disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.training.together import place

CHUNK = 64 * 1024**2


def copy_to_all(folder: Path) -> None:
    """All processes call it; then the files of the first one's folder lie on every machine.

    Raises OSError where a disk is full, but only after everything was sent: nobody is left waiting.
    """
    import torch
    import torch.distributed as group

    listed: list[Any] = [_files(folder) if place().rank == 0 else None]
    group.broadcast_object_list(listed, 0)
    trouble: OSError | None = None
    for name, size in listed[0]:
        chunks = _read(folder / name) if place().rank == 0 else None
        for start in range(0, size, CHUNK):
            length = min(CHUNK, size - start)
            chunk = next(chunks) if chunks else bytearray(length)
            buffer = torch.frombuffer(chunk, dtype=torch.uint8)
            group.broadcast(buffer, 0)
            if place().rank != 0 and place().writes and trouble is None:
                trouble = _append(folder / name, memoryview(chunk), first=start == 0)
    if trouble is not None:
        raise trouble


def _files(folder: Path) -> list[tuple[str, int]]:
    return [
        (str(path.relative_to(folder)), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _read(path: Path) -> Iterator[bytearray]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield bytearray(chunk)


def _append(path: Path, chunk: memoryview, *, first: bool) -> OSError | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb" if first else "ab") as file:
            file.write(chunk)
    except OSError as error:
        return error
    return None
