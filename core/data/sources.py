"""Sources: what a person names (files, lists in them, folders, globs, hub ids, standard input) as a
stream of records.

Records are numbered from 1; for JSON lines the number is that of the line. Where a source has
several files the numbers run on, so that each names one row. A bad row is a record with a
problem; only what makes the whole source unusable raises UserError.

Of a folder or a data set on the hub those files are read that are to be trained on by their names,
and those for evaluation are held out (`core.data.parts`); of one that is named for evaluation it
is the other way round.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.data.columnar import read_columnar
from core.data.examples import Record
from core.data.files import KINDS, PACKED, DataFile, Kind, Meter, examine
from core.data.parts import Found, evaluation_part, is_held_out_name, part_of_path, sort_out
from core.data.piped import STANDARD_INPUT, standard_input
from core.data.readers import read_document, read_jsonl, read_table, read_text
from core.errors import UserError, describe_os_error
from core.paths import expanded


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
    """What a specification stands for: files that have been looked at.

    `held_out` names what it sets apart for evaluation, `spare` what is for evaluation as well but
    is not read at all, nor is `unnamed`, whose names tell nothing. `misnamed` is what is read among
    others although by its name it is for evaluation.
    """

    name: str
    files: tuple[DataFile, ...]
    held_out: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    misnamed: tuple[str, ...] = ()

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


def resolve(spec: Sequence[str], *, to_evaluate: bool = False) -> Source:
    """Find and look at everything that `spec` names, to train on it or to evaluate. UserError when
    something is not there."""
    found = [_find(name, to_evaluate=to_evaluate) for name in spec]
    files = tuple(file for one in found for file in one.files)
    if not files:
        raise UserError("No data is named.", "Name a file, a folder or a hub id.")
    first = "standard input" if spec[0] == STANDARD_INPUT else spec[0]
    shown = first if len(spec) == 1 else f"{first} and {len(spec) - 1} more"
    read = {str(file.path) for file in files if not file.part}
    return Source(
        shown,
        files,
        held_out=tuple(name for one in found for name in one.held_out if name not in read),
        spare=tuple(name for one in found for name in one.spare if name not in read),
        unnamed=tuple(name for one in found for name in one.unnamed if name not in read),
        misnamed=() if to_evaluate else _misnamed(found),
    )


def _misnamed(found: Sequence[_Files]) -> tuple[str, ...]:
    """Files for evaluation that are among others, or are all that a folder holds. Where nothing
    else is named, they are meant."""
    named = [file for one in found for file in one.files if is_held_out_name(file.path.name)]
    alone = len(named) == sum(len(one.files) for one in found)
    taken = [file for one in found if one.all_for_evaluation for file in one.files]
    return tuple(dict.fromkeys(str(file.path) for file in (*taken, *([] if alone else named))))


def read_file(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    return _READERS[file.kind](file, meter)


@dataclass(frozen=True, slots=True)
class _Files:
    """What one name stands for."""

    files: tuple[DataFile, ...]
    held_out: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    all_for_evaluation: bool = False


def _find(name: str, *, to_evaluate: bool) -> _Files:
    path = expanded(name)
    if names_a_list(path):
        return _Files((_list_in(path),))
    found = _paths(name, to_evaluate=to_evaluate)
    files = tuple(
        examine(one) if isinstance(one, Path) else examine(one.path, one) for one in found.files
    )
    return _Files(files, found.held_out, found.spare, found.unnamed, found.all_for_evaluation)


def _list_in(path: Path) -> DataFile:
    file = examine(path.parent)
    if file.kind != "json":
        raise UserError(
            f"{path.parent} holds no lists with names, and so none named {path.name}.",
            "Name the file alone.",
        )
    return replace(file, part=path.name)


def names_a_list(path: Path) -> bool:
    """Whether a list in a JSON file is meant: `FILE/test`, as splits on the hub are named."""
    try:
        return path.parent.is_file() and not path.exists()
    except (OSError, ValueError):
        return False


def _paths(name: str, *, to_evaluate: bool) -> Found:
    """The files that a name stands for."""
    if name == STANDARD_INPUT:
        return Found((standard_input(),))
    path = expanded(name)
    try:
        if path.is_dir():
            return _files_in(path, to_evaluate=to_evaluate)
        if path.is_fifo() or path.is_socket():  # a look at its beginning would take that away
            raise UserError(f"{name} is a pipe, not a file.", "Name - and pipe the rows into it.")
        if path.exists():
            return Found((path,))
    except OSError as error:
        raise describe_os_error(error, "read") from error
    except ValueError as error:
        raise UserError(f"{name!r} is not a path.") from error
    if any(char in name for char in "*?["):
        found = sorted(map(Path, glob.glob(str(path), recursive=True)))
        if not found:
            raise UserError(f"No file matches {name}.", "Check the pattern.")
        return Found(tuple(one for one in found if one.is_file()))
    if is_hub_id(name):
        from core.data.hub import find

        return find(name, to_evaluate=to_evaluate)
    raise UserError(f"There is no file {name}.", "Check the path.")


def is_hub_id(name: str) -> bool:
    """Whether the name means a data set on the hub rather than a path."""
    path = expanded(name)
    return bool(_HUB_ID.fullmatch(name)) and not path.exists() and not _looks_like_a_file(path)


def check_source(name: str) -> None:
    """UserError when a file or folder to evaluate on is not there or cannot be read; a hub id is
    not asked for."""
    if not is_hub_id(name):
        resolve([name], to_evaluate=True)


def _looks_like_a_file(path: Path) -> bool:
    return _kind_by_name(path) is not None or path.parent.exists()


def _files_in(folder: Path, *, to_evaluate: bool) -> Found:
    """The data in a folder that are to be trained on, or to evaluate: text only where it holds
    nothing else, for what lies beside rows is a licence or a card."""
    found = [path for path in sorted(folder.rglob("*")) if _is_data(path, folder)]
    rows = [path for path in found if _kind_by_name(path) not in ("text", "document")]
    if not found:
        raise UserError(
            f"The folder {folder} holds no data files.",
            f"It needs files that end in {', '.join(KINDS)}.",
        )
    parts = {path: part_of_path(path.relative_to(folder)) for path in rows or found}
    if to_evaluate:
        wanted = evaluation_part(parts)
        return Found(wanted or tuple(parts))
    parted = sort_out(parts)
    return Found(
        parted.train,
        held_out=tuple(map(str, parted.held_out)),
        spare=tuple(map(str, parted.spare)),
        unnamed=tuple(map(str, parted.unnamed)),
        all_for_evaluation=not parted.held_out and bool(evaluation_part(parts)),
    )


def _is_data(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    named = _kind_by_name(path) is not None and path.name not in _ABOUT_DATA
    return named and not hidden and path.is_file()


def _kind_by_name(path: Path) -> Kind | None:
    bare = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return KINDS.get(bare.suffix.lower())
