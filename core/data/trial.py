"""Trying a mapping on the first rows of a source, before it is taken."""

from __future__ import annotations

from collections.abc import Mapping

from core.data.formats import check_mapping, recognise
from core.data.inspection import Inspection
from core.data.preview import preview_of
from core.data.rows import MappingTrial
from core.data.verdict import Judge
from core.errors import UserError
from core.text import printable

SHOWN_ROWS = 3


def try_mapping(inspection: Inspection, mapping: Mapping[str, str]) -> MappingTrial:
    """What the first rows would be with another mapping. UserError for one that cannot be."""
    mapping = check_mapping(mapping)
    for column in mapping.values():
        if column not in inspection.recognition.columns:
            raise UserError(f"There is no column “{printable(column, single_line=True)}”.")
    first = inspection.first
    format = recognise(first, mapping).format if mapping else inspection.judge.format
    judge = Judge(format, mapping)
    verdicts = [judge.judge(record) for record in first]
    usable = [verdict for verdict in verdicts if verdict.example is not None]
    shown = (usable or verdicts)[:SHOWN_ROWS]
    return MappingTrial(format, len(first), len(usable), tuple(map(preview_of, shown)))
