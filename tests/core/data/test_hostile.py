"""Hostile files: the right code at the right row, no traceback, nothing raw on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.data.inspection import Inspection
from core.data.preview import detail_of, preview_of
from core.data.sources import resolve
from core.errors import UserError
from core.text import printable
from tests.core.data.hostile import CASES, Case

LINE_ENDS_AND_TABS = "\n\t"


def test_there_are_enough() -> None:
    assert len({case.title for case in CASES}) == len(CASES) >= 80


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_hostile_file(tmp_path: Path, case: Case) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content)
    if case.refused:
        with pytest.raises(UserError, match=case.refused) as caught:
            Inspection(resolve([str(path)])).run()
        assert "\n" not in caught.value.message
        assert caught.value.remedy
        return
    inspection = Inspection(resolve([str(path)]))
    for verdict, _ in inspection.steps():
        shown = preview_of(verdict)
        assert is_safe(shown.prompt + shown.answer, "")
        detail = detail_of(verdict, "here", b"", shown.problems)
        assert is_safe("".join([detail.raw, *(turn.text for turn in detail.turns)]))
        assert is_safe("".join(problem.message for problem in detail.problems), "")
    report = inspection.report
    assert report.rows == sum(report.ledger.values())
    assert report.usable == case.usable
    assert bool(report.error) == (case.usable == 0)
    found = {(problem.code, row) for problem in report.problems for row in problem.rows}
    for row, code in case.codes.items():
        if code:
            assert (code, row) in found
        else:
            assert not {one for one, number in found if number == row} - {"response-length-outlier"}
    json.dumps(report.as_json()).encode("utf-8")


def is_safe(text: str, allowed: str = LINE_ENDS_AND_TABS) -> bool:
    """Whether a terminal would show every character and obey none."""
    return all(char in allowed or printable(char) == char for char in text)
