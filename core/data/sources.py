"""Sources: what a person names (files, lists in them, folders, globs, hub ids, standard input) as a
stream of records.

Records are numbered from 1; for JSON lines the number is that of the line. Where a source has
several files the numbers run on, so that each names one row. A bad row is a record with a
problem; only what makes the whole source unusable raises UserError.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.data.columnar import read_columnar
from core.data.examples import Record
from core.data.files import KINDS, PACKED, DataFile, Kind, Meter, examine
from core.data.piped import STANDARD_INPUT, standard_input
from core.data.readers import read_document, read_jsonl, read_table, read_text
from core.errors import UserError, describe_os_error

if TYPE_CHECKING:
    from core.data.hub import HubFile


def _read_json(file: DataFile, meter: Meter | None) -> Iterator[Record]:
    from core.data.json_values import read_json  # it needs numpy

    return read_json(file, meter)


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(:[\w.-]+)?(/[\w.-]+)?")
_ABOUT_DATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What `datasets` saves beside the rows."""
_READERS: dict[Kind, Callable[[DataFile, Meter | None], Iterator[Record]]] = {
    "jsonl": read_jsonl, "json": _read_json, "csv": read_table, "tsv": read_table,
    "parquet": read_columnar, "arrow": read_columnar, "text": read_text,
    "document": read_document,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """What a specification stands for: files that have been looked at."""

    name: str
    files: tuple[DataFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    def records(self, meter: Meter | None = None) -> Iterator[Record]:
        """All records from the first on; may be called again."""
        last = 0
        for file in self.files:
            offset = last
            for record in read_file(file, meter):
                last = record.number + offset
                yield replace(record, number=last) if offset else record
            if meter is not None:
                meter.finish(file.size)


def open_source(spec: Sequence[str]) -> Iterator[Record]:
    """The records of files, folders, globs and hub ids, one after another."""
    return resolve(spec).records()


def resolve(spec: Sequence[str]) -> Source:
    """Find and look at everything that `spec` names. UserError when something is not there."""
    files = [file for name in spec for file in _files(name)]
    if not files:
        raise UserError("No data is named.", "Name a file, a folder or a hub id.")
    first = "standard input" if spec[0] == STANDARD_INPUT else spec[0]
    shown = first if len(spec) == 1 else f"{first} and {len(spec) - 1} more"
    return Source(shown, tuple(files))


def read_file(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    return _READERS[file.kind](file, meter)


def _files(name: str) -> list[DataFile]:
    path = Path(name).expanduser()
    if not names_a_list(path):
        return [_examined(found) for found in _paths(name)]
    file = examine(path.parent)
    if file.kind != "json":
        raise UserError(
            f"{path.parent} holds no lists with names, and so none named {path.name}.",
            "Name the file alone.",
        )
    return [replace(file, part=path.name)]


def names_a_list(path: Path) -> bool:
    """Whether a list in a JSON file is meant: `FILE/test`, as splits on the hub are named."""
    try:
        return path.parent.is_file() and not path.exists()
    except (OSError, ValueError):
        return False


def _examined(found: Path | HubFile) -> DataFile:
    return examine(found) if isinstance(found, Path) else examine(found.path, found)


def _paths(name: str) -> list[Path] | list[Path | HubFile]:
    """The files that a name stands for."""
    if name == STANDARD_INPUT:
        return [standard_input()]
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return _files_in(path)
        if path.exists():
            return [path]
    except OSError as error:
        raise describe_os_error(error, "read") from error
    except ValueError as error:
        raise UserError(f"{name!r} is not a path.") from error
    if any(char in name for char in "*?["):
        found = sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not found:
            raise UserError(f"No file matches {name}.", "Check the pattern.")
        return [one for one in found if one.is_file()]
    if is_hub_id(name):
        from core.data.hub import find

        return find(name)
    raise UserError(f"There is no file {name}.", "Check the path.")


def is_hub_id(name: str) -> bool:
    """Whether the name means a data set on the hub rather than a path."""
    path = Path(name).expanduser()
    return bool(_HUB_ID.fullmatch(name)) and not path.exists() and not _looks_like_a_file(path)


def check_source(name: str) -> None:
    """UserError when a file or folder is not there or cannot be read; a hub id is not asked for."""
    if not is_hub_id(name):
        resolve([name])


def _looks_like_a_file(path: Path) -> bool:
    return _kind_by_name(path) is not None or path.parent.exists()


def _files_in(folder: Path) -> list[Path]:
    """The data in a folder: text only where it holds nothing else, for what lies beside rows is a
    licence or a card."""
    found = [path for path in sorted(folder.rglob("*")) if _is_data(path, folder)]
    rows = [path for path in found if _kind_by_name(path) not in ("text", "document")]
    if not found:
        raise UserError(
            f"The folder {folder} holds no data files.",
            f"It needs files that end in {', '.join(KINDS)}.",
        )
    return rows or found


def _is_data(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    named = _kind_by_name(path) is not None and path.name not in _ABOUT_DATA
    return named and not hidden and path.is_file()


def _kind_by_name(path: Path) -> Kind | None:
    bare = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return KINDS.get(bare.suffix.lower())
