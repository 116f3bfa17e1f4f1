"""Data sets on the Hugging Face hub, downloaded file by file into its own cache."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from core.data.files import KINDS, PACKED
from core.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(:(?P<config>[\w.-]+))?(/(?P<split>[\w.-]+))?")
_PARQUET = "refs/convert/parquet"


def download(name: str) -> list[Path]:
    """The local files of `org/name[:config][/split]`. UserError when the hub does not give them."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        GatedRepoError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    match = _NAME.fullmatch(name)
    assert match is not None
    repository = match["id"]
    try:
        revision, files = _choose(HfApi(), repository, match["config"], match["split"])
        return [
            Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))
            for file in files
        ]
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
    except (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        HTTPError,
    ) as error:
        raise UserError(
            f"There is no file {name}, and the hub cannot be reached to look for a data set.",
            "Check the path, or the network.",
        ) from error


def _choose(
    api: HfApi, repository: str, config: str | None, split: str | None
) -> tuple[str, list[str]]:
    """The revision and the files of a split: the hub's own parquet copy where there is one."""
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        files = api.list_repo_files(repository, repo_type="dataset", revision=_PARQUET)
        return _PARQUET, _of_split(repository, files, config, split)
    except RevisionNotFoundError:
        files = [
            file
            for file in api.list_repo_files(repository, repo_type="dataset")
            if _is_data(file) and (split is None or split in file)
        ]
    if not files:
        raise UserError(f"The data set {repository} holds no data files that can be read.")
    return "main", sorted(files)


def _of_split(
    repository: str, files: list[str], config: str | None, split: str | None
) -> list[str]:
    """Files lie as config/split/0000.parquet. Without a name: `default` or the first, `train`."""
    found = [PurePosixPath(file) for file in sorted(files) if file.endswith(".parquet")]
    configs = list(dict.fromkeys(path.parts[0] for path in found if len(path.parts) == 3))
    wanted = config or ("default" if "default" in configs else next(iter(configs), ""))
    splits = list(dict.fromkeys(path.parts[1] for path in found if path.parts[0] == wanted))
    part = split or ("train" if "train" in splits else next(iter(splits), ""))
    chosen = [str(path) for path in found if path.parts[:2] == (wanted, part)]
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
