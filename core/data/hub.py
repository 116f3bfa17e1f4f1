"""Data sets on the Hugging Face hub: `org/name[:config][/split]`.

Small ones, and those that are in the local cache already, are read from there. Of big ones the
rows are read as they come, without a copy on disk, so that the first are there at once. All files
are those of one commit. Neither `datasets` nor torch is needed.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from core.data.files import KINDS, PACKED
from core.data.split import is_held_out_name, words_of
from core.errors import UserError
from core.units import duration_text

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(:(?P<config>[\w.-]+))?(/(?P<split>[\w.-]+))?")
_PARQUET = "refs/convert/parquet"
_PARTIAL = "partial-"
_ANSWER_SECONDS = 20.0
_ATTEMPTS = 3
_LONGEST_WAIT = 20
TOO_MANY, UNAVAILABLE = 429, 503
SMALL_BYTES = 64 << 20
"""Data sets up to this size are downloaded into the cache."""
FIRST_BYTES = 256 << 10
BLOCK_BYTES = 8 << 20
"""What is asked for at once: little at first, as the first rows shall be there soon."""


class Answer(Protocol):
    """What the hub answers."""

    @property
    def status_code(self) -> int: ...

    @property
    def content(self) -> bytes: ...

    @property
    def headers(self) -> Mapping[str, str]: ...


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


def find(name: str) -> list[Path | HubFile]:
    """The files of `org/name[:config][/split]`. UserError when the hub does not give them."""
    match = _NAME.fullmatch(name)
    assert match is not None
    repository = match["id"]
    unreachable = f"There is no file {name}, and the hub cannot be reached to look for a data set."
    with _explained(name, repository, unreachable):
        from huggingface_hub import HfApi

        files = _choose(HfApi(), repository, match["config"], match["split"])
        small = sum(file.size for file in files) <= SMALL_BYTES
        return [_local(file, small=small) or file for file in files]


def _local(file: HubFile, *, small: bool) -> Path | None:
    """The file in the cache; small ones are put there."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    repository, name, commit = file.repository, file.name, file.commit
    if small:
        return Path(hf_hub_download(repository, name, repo_type="dataset", revision=commit))
    found = try_to_load_from_cache(repository, name, repo_type="dataset", revision=commit)
    return Path(found) if isinstance(found, str) else None


@contextmanager
def _explained(name: str, repository: str, failure: str) -> Iterator[None]:
    """What can go wrong with the hub, as a sentence; `failure` is the one for the network."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise UserError(
            f"The data set {repository} is gated.",
            f"Accept its terms at https://huggingface.co/datasets/{repository}, then run"
            " `hf auth login`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"There is no file {name}, and no public data set of that name on the hub.",
            "Check the name; for a private one run `hf auth login`.",
        ) from error
    except OfflineModeIsEnabled as error:
        raise UserError(
            f"There is no file {name}, and HF_HUB_OFFLINE keeps from asking the hub.",
            "Check the path, or unset HF_HUB_OFFLINE.",
        ) from error
    except HfHubHTTPError as error:
        raise _refused(error.response, repository, failure) from error
    except (LocalEntryNotFoundError, HTTPError) as error:
        raise UserError(failure, "Check the path, or the network.") from error


def _refused(answer: Answer, repository: str, failure: str) -> UserError:
    """What an answer says that is neither rows nor one of the usual refusals."""
    status = answer.status_code
    if status in (401, 403):
        return UserError(
            f"The hub does not let you read {repository} ({status}).",
            "Ask its owner for access, then run `hf auth login`.",
        )
    if status != TOO_MANY:
        return UserError(f"{failure.removesuffix('.')}: it answers {status}.", "Try again later.")
    wait = _seconds_to_wait(answer)
    when = f"in {duration_text(wait)}" if wait else "later"
    return UserError(
        f"The hub has had too many requests from here ({status}).",
        f"Try again {when}; after `hf auth login` it allows more.",
    )


def _seconds_to_wait(answer: Answer) -> int | None:
    """What the answer asks to wait before the next request."""
    said = answer.headers.get("Retry-After", "").strip()
    return int(said) if said.isascii() and said.isdigit() else None


def _choose(api: HfApi, repository: str, config: str | None, split: str | None) -> list[HubFile]:
    """The files of a split: the hub's own parquet copy where there is a whole one."""
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        files = _list(api, repository, _PARQUET)
    except RevisionNotFoundError:
        files = []
    chosen = _of_split(repository, files, config, split) if files else []
    if not chosen:
        chosen = [
            file
            for file in _list(api, repository, None)
            if _is_data(file.name) and _belongs(file.name, config, split)
        ]
    if not chosen:
        wanted = "/".join(filter(None, (config, split)))
        raise UserError(
            f"The data set {repository} holds no data files{f' of {wanted}' if wanted else ''}"
            " that can be read.",
            "Look at its page for the names of its configs and splits.",
        )
    return chosen


def _list(api: HfApi, repository: str, revision: str | None) -> list[HubFile]:
    info = api.dataset_info(
        repository, revision=revision, files_metadata=True, timeout=_ANSWER_SECONDS
    )
    found = [
        HubFile(repository, info.sha or revision or "main", one.rfilename, one.size or 0)
        for one in info.siblings or []
    ]
    return sorted(found, key=lambda file: file.name)


def _of_split(
    repository: str, files: list[HubFile], config: str | None, split: str | None
) -> list[HubFile]:
    """Files lie as config/split/0000.parquet. Without a name: `default` or the first, `train`.
    None where the copy holds the first part of the rows only."""
    parts = {file: PurePosixPath(file.name).parts for file in files}
    found = {file: names for file, names in parts.items() if file.name.endswith(".parquet")}
    configs = list(dict.fromkeys(names[0] for names in found.values() if len(names) == 3))
    wanted = config or ("default" if "default" in configs else next(iter(configs), ""))
    splits = list(dict.fromkeys(names[1] for names in found.values() if names[0] == wanted))
    part = split or next((one for one in ("train", f"{_PARTIAL}train") if one in splits), "")
    part = part or next(iter(splits), "")
    if part.startswith(_PARTIAL) or f"{_PARTIAL}{part}" in splits:
        return []
    chosen = [file for file, names in found.items() if names[:2] == (wanted, part)]
    if not chosen:
        raise UserError(
            f"The data set {repository} has no {wanted or 'config'}/{part or 'split'}.",
            f"It has the configs {', '.join(configs[:8])} and the splits {', '.join(splits[:8])}.",
        )
    return chosen


def _is_data(name: str) -> bool:
    path = PurePosixPath(name)
    bare = path.with_suffix("") if path.suffix in PACKED else path
    return bare.suffix in KINDS and bare.suffix not in (".md", ".txt") and path.name[0] != "."


def _belongs(name: str, config: str | None, split: str | None) -> bool:
    """Whether a file is of this config and split, as far as its path tells. Without a split it is
    the part for training, or all where no path names one."""
    if config is not None and config.lower() not in name.lower():
        return False
    if split is not None:
        return split.lower() in words_of(name)
    return not is_held_out_name(name)


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
        with _explained(str(file.path), file.repository, f"The hub did not send {file.path}."):
            answer = _ask(url, headers)
            hf_raise_for_status(cast(Any, answer))
        content = answer.content
        if answer.status_code == 200:  # the whole file, whatever part was asked for
            content = content[start:end]
        if len(content) != end - start:
            raise UserError(f"The hub broke off in the middle of {file.path}.", "Try again.")
        self._block, self._start = content, start


def _ask(url: str, headers: dict[str, str]) -> Answer:
    """The answer to a request, tried again where that may help, for about a minute at most: the
    hub's library would wait for as long as it is told to."""
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
    from huggingface_hub.utils import http_backoff  # type: ignore[attr-defined]

    for _ in range(_ATTEMPTS):
        answer: Answer = http_backoff(
            "GET", url, headers=headers, timeout=HF_HUB_DOWNLOAD_TIMEOUT, max_retries=_ATTEMPTS,
            retry_on_status_codes=(408, 500, 502, 504),
        )  # fmt: skip
        wait = _seconds_to_wait(answer) or 1
        if answer.status_code not in (TOO_MANY, UNAVAILABLE) or wait > _LONGEST_WAIT:
            break
        time.sleep(wait)
    return answer
