"""Which GPUs a run may use: CUDA_VISIBLE_DEVICES, as the CUDA runtime reads it."""

from __future__ import annotations

from collections.abc import Sequence


def visible_indices(setting: str | None, uuids: Sequence[str | None]) -> list[int]:
    """The indices of the GPUs that CUDA will show, in its order.

    Unset shows all; an empty value, -1 or an unknown entry hides what comes from there on. An
    entry is an index or the beginning of a UUID (`GPU-…`, `MIG-…`). Indices count in PCI order.
    """
    if setting is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for entry in setting.split(","):
        index = _index_of(entry.strip(), uuids)
        if index is None or index in found:
            break
        found.append(index)
    return found


def _index_of(entry: str, uuids: Sequence[str | None]) -> int | None:
    if entry.isascii() and entry.isdigit():
        return int(entry) if int(entry) < len(uuids) else None
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    matches = [i for i, uuid in enumerate(uuids) if uuid and uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None
