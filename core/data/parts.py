"""Which part of a data set a file, a list or a split is, by its name.

The words are those of Hugging Face, and so is what separates them
(https://huggingface.co/docs/hub/datasets-file-names-and-splits), but for `heldout`, `testSet` and
their like, which people write as well. What is for evaluation is not trained on: it is held out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from core.data.hub import HubFile

Part = Literal["train", "validation", "test"]
Name = TypeVar("Name")

_WORDS: dict[str, Part] = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test", "heldout": "test",
    "holdout": "test",
}  # fmt: skip
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_HELD_OUT = re.compile(r"(?<![a-z])(held|hold)[\W_]out(?![a-z])")
_WORD = re.compile(r"[^\W\d_]+")
_SET = re.compile(r"(?<=.)(set|data)$")


@dataclass(frozen=True, slots=True)
class Parted(Generic[Name]):
    """The files of a data set: what is read to train on, what is held out for evaluation, what
    could have been held out as well, and what is not read since its name tells nothing."""

    train: tuple[Name, ...]
    held_out: tuple[Name, ...] = ()
    spare: tuple[Name, ...] = ()
    unnamed: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The files that a name stands for. `held_out`, `spare` and `unnamed` name what else belongs to
    it (see `Parted`); with `all_for_evaluation` its files are read since there are no others."""

    files: tuple[Path | HubFile, ...]
    held_out: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    all_for_evaluation: bool = False


def part_of(name: str) -> Part | None:
    """The part that a name means, None where it says nothing. What is for training may be called
    after the whole as well: `eval_suite_train` is for training."""
    plain = _HELD_OUT.sub(r"\1out", _HUMP.sub("_", name).lower())
    words = {_SET.sub("", word) for word in _WORD.findall(plain)}
    found = {_WORDS[word] for word in words if word in _WORDS}
    return next((part for part in ("train", "validation", "test") if part in found), None)


def is_held_out_name(name: str) -> bool:
    """Whether a split, list or file of this name is meant for evaluation."""
    return part_of(name) in ("validation", "test")


def part_of_path(path: PurePath) -> Part | None:
    """The part by the file's own name; if that says nothing, by the nearest folder's that does."""
    return next((part for name in reversed(path.parts) if (part := part_of(name))), None)


def sort_out(files: Mapping[Name, Part | None]) -> Parted[Name]:
    """Which of these files, whose parts are known by their names, are for what.

    Where none is for evaluation all are read, and so are all where none can be for anything else.
    Held out are those for validation, or without any those for the test: one of the two is left
    for later. Files without a telling name are for training unless others say that they are.
    """
    held_out = evaluation_part(files)
    train = of_part(files, "train") or of_part(files, None)
    if not held_out or not train:
        return Parted(tuple(files))
    rest = [file for file in files if file not in {*train, *held_out}]
    unnamed = tuple(file for file in rest if files[file] is None)
    return Parted(train, held_out, tuple(file for file in rest if files[file]), unnamed)


def evaluation_part(files: Mapping[Name, Part | None]) -> tuple[Name, ...]:
    """Those for validation; without any, those for the test."""
    return of_part(files, "validation") or of_part(files, "test")


def of_part(files: Mapping[Name, Part | None], part: Part | None) -> tuple[Name, ...]:
    return tuple(file for file, its in files.items() if its == part)
