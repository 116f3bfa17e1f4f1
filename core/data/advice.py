"""What the literature advises for data like these. Advice, not findings: each says why, and who
found it out."""

from __future__ import annotations

from collections.abc import Iterator

from core.data.report import Advice, Report

_SCARCE = 0.05
"""The share of rows from which on a flaw is worth a step of its own."""
_UNEVEN = 0.25


def advise(report: Report) -> tuple[Advice, ...]:
    """Advice for a finished report; empty when nothing is usable."""
    if not report.usable:
        return ()
    return (
        _about_size(report.usable),
        *_about_fitness(report),
        _about_rank(report.usable),
        _about_epochs(report.usable),
        *_about_flaws(report),
        *_about_length(report),
    )


def _about_size(rows: int) -> Advice:
    if rows < 50:
        return Advice(
            "Try a good prompt with some of these rows in it first.",
            f"{rows} rows fit into a prompt; fine-tuning on so few mostly memorises them.",
            "Brown et al. 2020 (arXiv 2005.14165)",
        )
    if rows < 200:
        return Advice(
            "Collect more rows: 500 to 1,000 good ones are a start.",
            f"With {rows} a model learns the form of the answers and memorises the rest.",
            "Zhou et al. 2023, LIMA (arXiv 2305.11206)",
        )
    if rows < 1000:
        return Advice(
            "Prefer better rows to more rows.",
            "1,000 carefully chosen examples taught a 65B model to follow instructions.",
            "Zhou et al. 2023, LIMA (arXiv 2305.11206)",
        )
    return Advice(
        "Train on a tenth first, then on all, and compare the held-out loss.",
        "If it does not fall with more rows, better ones are needed, not more of the same: 9,000"
        " well-graded rows beat the 52,000 that they were chosen from.",
        "Chen et al. 2023, AlpaGasus (arXiv 2307.08701)",
    )


def _about_fitness(report: Report) -> Iterator[Advice]:
    """Whether this is a job for fine-tuning at all."""
    if report.format in ("text", "preference", "kto"):
        return
    yield Advice(
        "Measure the base model on the held-out rows, with a good prompt, before you train.",
        "Where it answers well already, there is little to win and something to forget.",
        "Luo et al. 2023 (arXiv 2308.08747)",
    )
    yield Advice(
        "If the answers are facts that change, put them into retrieval instead of weights.",
        "For knowledge, retrieval beat fine-tuning; learning new facts made models hallucinate.",
        "Ovadia et al. 2023 (arXiv 2312.05934); Gekhman et al. 2024 (arXiv 2405.05904)",
    )


def _about_rank(rows: int) -> Advice:
    if rows < 1000:
        return Advice(
            "LoRA of rank 8 to 16 on all linear layers.",
            "Small data hold little to store, and which layers are adapted counts for more than"
            " the rank.",
            "Hu et al. 2021 (arXiv 2106.09685); Dettmers et al. 2023, QLoRA (arXiv 2305.14314)",
        )
    if rows < 50_000:
        return Advice(
            "LoRA of rank 16 to 32 on all linear layers.",
            "It matches full fine-tuning as long as the data hold no more than the adapter can.",
            "Schulman et al. 2025, LoRA Without Regret",
        )
    return Advice(
        "Rank 64 or more, or full fine-tuning where it fits.",
        "Where the data hold more than a low-rank update can, LoRA falls behind.",
        "Biderman et al. 2024, LoRA Learns Less and Forgets Less (arXiv 2405.09673)",
    )


def _about_epochs(rows: int) -> Advice:
    if rows < 1000:
        text = "3 to 5 epochs, and keep the checkpoint with the lowest held-out loss."
    elif rows < 50_000:
        text = "1 to 3 epochs, and an eye on the held-out loss."
    else:
        text = "1 epoch."
    return Advice(
        text,
        "Up to four passes teach about as much as as many new rows would; after that a model"
        " mostly memorises, the sooner the fewer the rows.",
        "Muennighoff et al. 2023 (arXiv 2305.16264)",
    )


def _about_flaws(report: Report) -> Iterator[Advice]:
    counts = {problem.code: problem.count for problem in report.problems}
    near_of = report.sample.rows if report.sample else report.usable

    def often(code: str, of: int = report.usable) -> bool:
        return counts.get(code, 0) > _SCARCE * of

    if often("duplicate") or often("near-duplicate", near_of):
        yield Advice(
            "Remove repeated rows before training (--write saves a copy without them).",
            "Models trained on deduplicated data reach the same loss in fewer steps and repeat"
            " their data ten times less.",
            "Lee et al. 2022 (arXiv 2107.06499)",
        )
    if often("conflicting-answers"):
        yield Advice(
            "Settle conflicting answers, or say in the prompt what makes the difference.",
            "The loss cannot fall below the disagreement in the data.",
            "Shannon 1948 (cross-entropy is never less than entropy)",
        )
    if often("refusal"):
        yield Advice(
            "Keep refusals to where you want them.",
            "A few hundred make a model safer; more make it refuse harmless questions.",
            "Bianchi et al. 2023 (arXiv 2309.07875)",
        )
    if counts.get("leakage"):
        yield Advice(
            "Take rows that are held out as well out of the training data.",
            "A score on rows that were trained on measures memory.",
            "Sainz et al. 2023 (arXiv 2310.18018)",
        )
    if counts.get("secret") or counts.get("pii"):
        yield Advice(
            "Remove keys and personal data, and revoke the keys.",
            "What stands in the training data, even once, can be drawn out of a model.",
            "Carlini et al. 2021 (arXiv 2012.07805)",
        )


def _about_length(report: Report) -> Iterator[Advice]:
    tokens = report.tokens
    if tokens is None or not tokens.recommended_length:
        return
    yield Advice(
        f"Set max_length to {tokens.recommended_length}.",
        "It is the smallest usual length that cuts one row in a hundred at most; the memory for"
        " activations grows with it.",
        "Korthikanti et al. 2022 (arXiv 2205.05198)",
    )
    padding = tokens.padding
    if padding is not None and padding.shuffled > _UNEVEN:
        yield Advice(
            "Keep rows of like length together, or pack them.",
            f"Their lengths differ so much that {padding.shuffled:.0%} of a shuffled batch would"
            f" be padding, {padding.grouped:.0%} of one with rows of like length.",
            "Krell et al. 2021 (arXiv 2107.02027)",
        )
