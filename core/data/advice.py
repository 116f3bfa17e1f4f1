"""What the literature advises for data like these. Advice, not findings: each says why."""

from __future__ import annotations

from dataclasses import dataclass

from core.data.report import Report


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence to act on, and the reason for it."""

    text: str
    why: str


def advise(report: Report) -> tuple[Advice, ...]:
    """Advice for a finished report; empty when nothing is usable."""
    if not report.usable:
        return ()
    found = [_about_size(report.usable), _about_settings(report.usable)]
    counts = {problem.code: problem.count for problem in report.problems}
    repeated = counts.get("duplicate", 0) + counts.get("near-duplicate", 0)
    if repeated * 20 > report.usable:
        found.append(
            Advice(
                "Remove repeated rows before training.",
                "Deduplicated data train to a lower loss in fewer steps and are memorised ten"
                " times less (Lee et al. 2022).",
            )
        )
    if counts.get("conflicting-answers", 0) * 20 > report.usable:
        found.append(
            Advice(
                "Settle conflicting answers, or say in the prompt what makes the difference.",
                "The loss cannot fall below the disagreement in the data.",
            )
        )
    tokens = report.tokens
    if tokens is not None and tokens.recommended_length:
        found.append(
            Advice(
                f"Set max_length to {tokens.recommended_length}.",
                "It is the smallest usual length that cuts one row in a hundred at most;"
                " activations grow with it.",
            )
        )
    if tokens is not None and tokens.max and tokens.p50 * 3 < tokens.p95:
        found.append(
            Advice(
                "Group rows by length, or pack them.",
                "Lengths vary so much that padding would take a large share of the compute.",
            )
        )
    return tuple(found)


def _about_size(rows: int) -> Advice:
    if rows < 50:
        return Advice(
            "Try a good prompt with some of these rows in it first.",
            f"{rows} rows fit into a prompt; fine-tuning on so few mostly memorises them.",
        )
    if rows < 200:
        return Advice(
            "Collect more rows: 500 to 1,000 good ones are a start.",
            f"With {rows} a model learns the form of the answers and memorises the rest.",
        )
    if rows < 1000:
        return Advice(
            "Prefer better rows to more rows.",
            "1,000 carefully chosen examples taught a 65B model to follow instructions (LIMA,"
            " Zhou et al. 2023). Facts that change belong into retrieval, not into weights.",
        )
    return Advice(
        "Train on a tenth first, then on all, and compare the held-out loss.",
        "If it does not fall with more rows, other rows are needed, not more of the same.",
    )


def _about_settings(rows: int) -> Advice:
    if rows < 1000:
        return Advice(
            "Rank 8 to 16, 3 to 5 epochs, and an eye on the held-out loss.",
            "Small data hold little to store, and overfit after a few passes.",
        )
    if rows < 50_000:
        return Advice(
            "Rank 16 to 32 on all linear layers, 1 to 3 epochs.",
            "LoRA on every linear layer matches full fine-tuning at this size (Schulman 2025;"
            " Dettmers et al. 2023).",
        )
    return Advice(
        "Rank 64 or more, 1 epoch.",
        "Where the data hold more than a low-rank update can, LoRA falls behind full fine-tuning"
        " (Biderman et al. 2024).",
    )
