"""Data sets on the Hugging Face hub: `org/name[:config][/split]`.

Small ones, and those that are in the local cache already, are read from there. Of big ones the
rows are read as they come, without a copy on disk, so that the first are there at once. All files
are those of one commit. Without a split those for training are read, and those for evaluation are
held out. Neither `datasets` nor torch is needed.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from core.data.files import KINDS, PACKED
from core.data.hub_answers import ask, explained, impatience
from core.data.parts import (
    Found,
    Part,
    evaluation_part,
    is_held_out_name,
    of_part,
    part_of,
    part_of_path,
    sort_out,
)
from core.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(:(?P<config>[\w.-]+))?(/(?P<split>[\w.-]+))?")
_PARQUET = "refs/convert/parquet"
_PARTIAL = "partial-"
_ANSWER_SECONDS = 20.0
SMALL_BYTES = 64 << 20
"""Data sets up to this size are downloaded into the cache."""
FIRST_BYTES = 256 << 10
BLOCK_BYTES = 8 << 20
"""What is asked for at once: little at first, as the first rows shall be there soon."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a data set at one commit."""

    repository: str
    commit: str
    name: str
    size: int

    @property
    def path(self) -> Path:
        """How it is shown."""
        return Path(self.repository, self.name)

    def open(self) -> IO[bytes]:
        return cast(IO[bytes], io.BufferedReader(_Ranges(self), 1 << 16))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked for: a part of a data set, to train on or to evaluate."""

    repository: str
    config: str | None
    split: str | None
    to_evaluate: bool

    def naming(self, split: str) -> str:
        """Another split, as a source."""
        config = f":{self.config}" if self.config else ""
        return f"{self.repository}{config}/{split}"


def find(name: str, *, to_evaluate: bool = False) -> Found:
    """The files of `org/name[:config][/split]`. UserError when the hub does not give them."""
    match = _NAME.fullmatch(name)
    assert match is not None
    wanted = _Wanted(match["id"], match["config"], match["split"], to_evaluate)
    unreachable = f"There is no file {name}, and the hub cannot be reached to look for a data set."
    with explained(name, wanted.repository, unreachable), impatience(wanted.repository):
        from huggingface_hub import HfApi

        found, files = _choose(HfApi(), wanted)
        small = sum(file.size for file in files) <= SMALL_BYTES
        return replace(found, files=tuple(_local(file, small=small) or file for file in files))


def _local(file: HubFile, *, small: bool) -> Path | None:
    """The file in the cache; small ones are put there."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    repository, name, commit = file.repository, file.name, file.commit
    if small:
        return Path(hf_hub_download(repository, name, repo_type="dataset", revision=commit))
    found = try_to_load_from_cache(repository, name, repo_type="dataset", revision=commit)
    return Path(found) if isinstance(found, str) else None


def _choose(api: HfApi, wanted: _Wanted) -> tuple[Found, list[HubFile]]:
    """The files of a split: the hub's own parquet copy where there is a whole one."""
    from huggingface_hub.errors import RevisionNotFoundError

    repository = wanted.repository
    try:
        files = _list(api, repository, _PARQUET)
    except RevisionNotFoundError:
        files = []
    found, chosen = _of_split(wanted, files) if files else (Found(()), [])
    if not chosen:
        found, chosen = _uploaded(wanted, _list(api, repository, None))
    if not chosen:
        named = "/".join(filter(None, (wanted.config, wanted.split)))
        raise UserError(
            f"The data set {repository} holds no data files{f' of {named}' if named else ''}"
            " that can be read.",
            "Look at its page for the names of its configs and splits.",
        )
    return found, chosen


def _list(api: HfApi, repository: str, revision: str | None) -> list[HubFile]:
    info = api.dataset_info(
        repository, revision=revision, files_metadata=True, timeout=_ANSWER_SECONDS
    )
    found = [
        HubFile(repository, info.sha or revision or "main", one.rfilename, one.size or 0)
        for one in info.siblings or []
    ]
    return sorted(found, key=lambda file: file.name)


def _of_split(wanted: _Wanted, files: list[HubFile]) -> tuple[Found, list[HubFile]]:
    """Files lie as config/split/0000.parquet. Without a name: `default` or the first, `train`.
    Nothing where the copy holds the first part of the rows only."""
    parts = {file: PurePosixPath(file.name).parts for file in files}
    found = {file: names for file, names in parts.items() if file.name.endswith(".parquet")}
    configs = list(dict.fromkeys(names[0] for names in found.values() if len(names) == 3))
    config = wanted.config or ("default" if "default" in configs else next(iter(configs), ""))
    splits = list(dict.fromkeys(names[1] for names in found.values() if names[0] == config))
    split = wanted.split or _usual(splits, to_evaluate=wanted.to_evaluate)
    if split.startswith(_PARTIAL) or f"{_PARTIAL}{split}" in splits:
        return Found(()), []
    chosen = [file for file, names in found.items() if names[:2] == (config, split)]
    if not chosen:
        raise UserError(
            f"The data set {wanted.repository} has no {config or 'config'}/{split or 'split'}.",
            f"It has the configs {', '.join(configs[:8])} and the splits {', '.join(splits[:8])}.",
        )
    return _besides(wanted, split, splits), chosen


def _usual(splits: list[str], *, to_evaluate: bool) -> str:
    """The split that is meant where none is named."""
    parts = {split: part_of(split) for split in splits}
    train = (*of_part(parts, "train"), *of_part(parts, None))
    first = ("train", f"{_PARTIAL}train")
    order = [*evaluation_part(parts)] if to_evaluate else []
    order += [*(one for one in first if one in splits), *train, *splits]
    return next(iter(order), "")


def _besides(wanted: _Wanted, split: str, splits: list[str]) -> Found:
    """What becomes of the other splits, where the user has named none: one is held out."""
    others = {one.removeprefix(_PARTIAL): part_of(one) for one in splits if one != split}
    if wanted.split or wanted.to_evaluate:
        return Found(())
    if part_of(split) in ("validation", "test"):
        return Found((), spare=tuple(map(wanted.naming, others)), all_for_evaluation=True)
    held_out = evaluation_part(others)[:1]
    spare = (one for one in others if is_held_out_name(one) and one not in held_out)
    rest = (one for one in others if not is_held_out_name(one))
    return Found(
        (),
        held_out=tuple(map(wanted.naming, held_out)),
        spare=tuple(map(wanted.naming, spare)),
        unnamed=tuple(map(wanted.naming, rest)),
    )


def _uploaded(wanted: _Wanted, files: list[HubFile]) -> tuple[Found, list[HubFile]]:
    """Of the files as their owner has named them those of a config and split, as far as their
    names tell."""
    config = (wanted.config or "").lower()
    there = [file for file in files if _is_data(file.name) and config in file.name.lower()]
    if wanted.split is not None:
        split = _plain(wanted.split)
        return Found(()), [file for file in there if split in _plain(file.name)]
    parts: dict[HubFile, Part | None] = {
        file: part_of_path(PurePosixPath(file.name)) for file in there
    }
    if wanted.to_evaluate:
        return Found(()), list(evaluation_part(parts) or there)
    parted = sort_out(parts)
    held_out = dict.fromkeys(wanted.naming(_split_word(file)) for file in parted.held_out)
    found = Found(
        (),
        held_out=tuple(held_out),
        spare=tuple(str(file.path) for file in parted.spare),
        unnamed=tuple(str(file.path) for file in parted.unnamed),
        all_for_evaluation=not parted.held_out and bool(evaluation_part(parts)),
    )
    return found, list(parted.train)


def _plain(name: str) -> str:
    """The words of a name, each between two lines."""
    return f"-{'-'.join(re.findall('[a-z0-9]+', name.lower()))}-"


def _split_word(file: HubFile) -> str:
    """What in a file's name, or in that of the nearest folder, makes it held out."""
    part = next(one for one in reversed(PurePosixPath(file.name).parts) if is_held_out_name(one))
    words: list[str] = re.findall("[A-Za-z0-9]+", part)
    return next(filter(is_held_out_name, words), "-".join(words))


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    bare = path.with_suffix("") if path.suffix in PACKED else path
    return bare.suffix in KINDS and bare.suffix not in (".md", ".txt") and path.name[0] != "."


class _Ranges(io.RawIOBase):
    """A file on the hub, read block by block with range requests. The network's failures are
    UserErrors: a row that did not arrive is not a bad row."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self._position = 0
        self._block = b""
        self._start = 0  # of the block
        self._size = FIRST_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}
        self._position = max(0, base[whence] + offset)
        return self._position

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        view = memoryview(buffer)
        if not len(view) or self._position >= self._file.size:
            return 0
        if not self._start <= self._position < self._start + len(self._block):
            self._fetch(self._position, self._position + self._size)
            self._size = min(2 * self._size, BLOCK_BYTES)
        at = self._position - self._start
        piece = self._block[at : at + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _fetch(self, start: int, end: int) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
        )

        file = self._file
        end = min(end, file.size)
        url = hf_hub_url(file.repository, file.name, repo_type="dataset", revision=file.commit)
        headers = {**build_hf_headers(), "Range": f"bytes={start}-{end - 1}"}
        with explained(str(file.path), file.repository, f"The hub did not send {file.path}."):
            answer = ask(url, headers)
            hf_raise_for_status(cast(Any, answer))
        content = answer.content
        if answer.status_code == 200:  # the whole file, whatever part was asked for
            content = content[start:end]
        if len(content) != end - start:
            raise UserError(f"The hub broke off in the middle of {file.path}.", "Try again.")
        self._block, self._start = content, start
