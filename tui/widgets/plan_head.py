"""What stands over the Plan table: the run and its data, and what must be said before it."""

from __future__ import annotations

import textwrap

from textual.content import Content

from core.text import clip, printable
from core.units import count_text
from tui.plan_session import ASSUMED_ROWS, ASSUMED_TOKENS, PlanSession

MOST_NAME = 28  # cells; the rows and tokens after it count more


def basis_line(session: PlanSession) -> Content:
    """The run's name, its rows and tokens, and the price of an hour."""
    source, report = session.deck.source, session.deck.report
    if source is None:
        return Content.assemble(
            ("No data is open. ", "bold"),
            f"Shown for {count_text(ASSUMED_ROWS)} rows of {ASSUMED_TOKENS} tokens.  ",
            ("2", "bold $accent"),
            " opens your data.",
        )
    name = clip(printable(session.run_name, single_line=True), MOST_NAME)
    rows = count_text(report.usable) if report else "… counting"
    parts = [("Run ", "$text-muted"), (name, "bold"), (f"   {rows} rows", "")]
    if report and report.tokens:
        tokens = report.tokens
        parts.append(
            (f"   {count_text(tokens.total)} tokens   longest {count_text(tokens.max)}", "")
        )
    else:
        parts.append((f"   tokens not counted: {ASSUMED_TOKENS} a row assumed", "$warning"))
    price = session.dollars_per_hour
    if price is not None:
        parts.append((f"   ${price:g} an hour", "$text-muted"))
    return Content.assemble(*parts)


def note_lines(session: PlanSession, width: int) -> list[Content]:
    """What must be known before the table is read, wrapped."""
    made = session.plan
    lines = [made.note] if made and made.note else []
    if session.only is not None:
        lines.append(f"Only {session.only.id} is shown. Esc shows all models.")
    if session.words.strip() and made:
        count = f"{len(session.candidates)} of {len(made.candidates)}"
        lines.append(f"Only “{session.words.strip()}” is shown: {count}. Esc shows all.")
    wrapped = [part for line in lines for part in textwrap.wrap(printable(line), width)]
    return [Content.styled(line, "$text-muted") for line in wrapped]
